"""The harness itself: results by rank, deadlines, and who failed first."""

import os
import time

import pytest
import torch

from foundrank.dist.ranks.runtime import Runtime

from .harness import run_ranks


def add_up(runtime: Runtime, offset: int) -> tuple[int, float]:
    return runtime.rank, runtime.sum(torch.tensor(float(runtime.rank + offset))).item()


def test_results_come_back_by_rank():
    assert run_ranks(add_up, 2, 10) == [(0, 21.0), (1, 21.0)]


def fail_on_one(runtime: Runtime) -> None:
    if runtime.rank == 1:
        raise ValueError("the first to fail")
    runtime.sum(torch.zeros(1))  # waits for rank 1, and fails after it


def hang(runtime: Runtime) -> None:
    time.sleep(60 if runtime.rank == 1 else 0)


def die(runtime: Runtime) -> None:
    if runtime.rank == 1:
        os._exit(9)
    runtime.barrier()


def test_every_traceback_is_shown_earliest_first():
    with pytest.raises(pytest.fail.Exception) as failed:
        run_ranks(fail_on_one, 2)
    said = str(failed.value)
    assert "rank 1: Traceback" in said
    assert "ValueError: the first to fail" in said
    assert said.find("rank 1") < said.find("rank 0") or "rank(s) 0" in said


def test_a_rank_that_hangs_is_killed_at_the_deadline():
    started = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"rank\(s\) 0, 1 did not finish in 1 s"):
        run_ranks(hang, 2, deadline=1.0)
    assert time.monotonic() - started < 15


def test_a_rank_that_dies_silently_is_noticed():
    with pytest.raises(pytest.fail.Exception, match="rank 1: died without a traceback"):
        run_ranks(die, 2)
