"""A training that no longer moves is ended, with a word on each rank."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.train import watchdog as module
from foundrank.dist.train.watchdog import Watchdog

from .harness import run_ranks

ORDER: Any = None  # which it does not look at


def one_rank_waits_for_rows(runtime: Runtime, run: Path) -> None:
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(60 if runtime.rank == 1 else 0)
        yield 2

    sys.stderr = (run / f"said.rank{runtime.rank}").open("w")
    watchdog = Watchdog(run, runtime, limit=1.0)
    batches = watchdog.reading(ORDER, slow())
    for step in (1, 2):
        watchdog.before_step(step)
        next(batches)
        runtime.barrier()


def some_steps(runtime: Runtime, run: Path) -> int:
    watchdog = Watchdog(run, runtime, limit=0.8)
    for step, _ in enumerate(watchdog.reading(ORDER, iter(range(4))), 1):
        watchdog.before_step(step)
        time.sleep(0.3)
    watchdog.before_saving()
    time.sleep(1.5)  # a validation may take longer than a step
    watchdog.finish(stopped=False)
    return runtime.rank


def one_rank_is_stopped_by_a_debugger(runtime: Runtime, run: Path) -> int:
    if runtime.rank == 1:
        module.debugger = lambda: "pdb"  # type: ignore[assignment]
    watchdog = Watchdog(run, runtime, limit=1.0)
    watchdog.before_step(1)
    time.sleep(1.8 * (runtime.rank == 1))
    if runtime.rank == 1:
        module.debugger = lambda: None  # type: ignore[assignment]  # it goes on, and has its time again
    time.sleep(0.2)
    runtime.barrier()  # where rank 0 has waited all the while
    watchdog.finish(stopped=False)
    return runtime.rank


def test_who_waits_and_for_what_is_told(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="died without a traceback"):
        run_ranks(one_rank_waits_for_rows, 2, tmp_path)
    said = (tmp_path / "said.rank0").read_text()
    assert "no step in 1 s" in said
    assert "rank 0 works on step 2, for 1 s" in said
    assert "rank 1 waits in step 2 for rows of its reader, for 1 s" in said
    assert (
        "runtime.barrier" in (tmp_path / "stalled.rank0.txt").read_text()
        or "in barrier" in (tmp_path / "stalled.rank0.txt").read_text()
    )


def test_what_a_debugger_stops_has_not_stalled_nor_has_who_waits_for_it(tmp_path):
    assert run_ranks(one_rank_is_stopped_by_a_debugger, 2, tmp_path) == [0, 1]


def test_steps_and_pauses_are_no_stall(tmp_path):
    assert run_ranks(some_steps, 2, tmp_path) == [0, 1]
    assert not list(tmp_path.iterdir())
