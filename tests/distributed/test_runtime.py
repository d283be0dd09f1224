"""What ranks say to each other."""

import time
from functools import partial
from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.ranks.job import on_ranks
from foundrank.dist.ranks.runtime import Runtime, start

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
