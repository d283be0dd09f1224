"""What ranks say to each other."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.errors import UserError
from foundrank.dist.ranks.job import on_ranks
from foundrank.dist.ranks.preemption import Preemption
from foundrank.dist.ranks.runtime import Runtime, start
from foundrank.dist.train.prepare import prepare
from foundrank.dist.train.train import train

from .harness import run_ranks


def fail_on_main(runtime: Runtime, user: bool) -> str:
    def work() -> None:
        raise UserError("a file", "is bad", "Mend it.") if user else OSError("no space")

    try:
        runtime.on_main(work)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def ask_main(runtime: Runtime) -> tuple[list[int], list[int]]:
    return runtime.on_main(lambda: [7, runtime.rank]), runtime.gather(runtime.rank)


def threads_of_trainings(runtime: Runtime, experiment: Experiment, folder: Path) -> list[int]:
    """How many threads of groups of ranks, and of writers of checkpoints, there are after each of three trainings."""
    found = []
    for number in range(3):
        job = runtime.on_main(lambda number=number: prepare(experiment, folder / str(number)))
        with Preemption(runtime) as preemption:
            train(job, runtime, preemption)
        names = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]
        names += [thread.name for thread in threading.enumerate()]
        found.append(sum("gloo" in name or "checkpoint" in name for name in names))
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_trainings_leave_no_threads_behind(small, tmp_path, ranks):
    """One process may train many models, and the threads of a group of ranks wake up all the time."""
    experiment = small("training.max_steps=2", "training.epochs=1", "training.keep_best=false")
    for first, *others in run_ranks(threads_of_trainings, ranks, experiment, tmp_path):
        assert others == [first, first]


def test_main_works_and_everyone_knows():
    assert run_ranks(ask_main, 2) == [([7, 0], [0, 1]), ([7, 0], [])]


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_error_on_main_is_everyones(world_size: int):
    assert run_ranks(fail_on_main, world_size, True) == ["UserError: a file: is bad. Mend it."] * world_size
    said = run_ranks(fail_on_main, world_size, False)
    assert said == ["OSError: no space", "RuntimeError: rank 0 failed: OSError('no space')"][:world_size]


def test_several_agents_that_share_a_store_may_not_restart_ranks(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_MAX_RESTARTS": "3",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), start():
        pass


def slow_to_tell(folder: Path, runtime: Runtime) -> int:
    if runtime.is_main:
        time.sleep(1)
        (folder / "told").write_text("all there was to tell")
    return 3


def test_a_rank_that_leaves_first_with_a_status_does_not_end_the_one_that_tells(tmp_path):
    assert on_ranks(partial(Path, tmp_path), slow_to_tell, 2) == 3
    assert (tmp_path / "told").is_file()
