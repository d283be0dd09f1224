"""Which CPUs a rank works on."""

import os
import threading

import pytest
import torch

from foundrank.dist.ranks.cores import keep_to_own_cores
from foundrank.dist.ranks.runtime import Runtime

from .harness import run_ranks

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="CPUs cannot be divided here"
)


def cpus_after(runtime: Runtime, device: str, before: set[int] | None = None) -> tuple[set[int], set[int]]:
    """Those of a thread that was there already, and of the one that asked."""
    go, found = threading.Event(), []
    thread = threading.Thread(target=lambda: (go.wait(), found.append(os.sched_getaffinity(0))))
    thread.start()
    if before is not None:
        os.sched_setaffinity(0, before)
    keep_to_own_cores(torch.device(device))
    go.set()
    thread.join()
    return found[0], os.sched_getaffinity(0)


def test_ranks_of_a_machine_divide_its_cpus():
    (first, also_first), (second, also_second) = run_ranks(cpus_after, 2, "cpu")
    assert first == also_first
    assert second == also_second
    assert first | second == os.sched_getaffinity(0)
    assert not first & second
    assert abs(len(first) - len(second)) <= 1


def test_one_rank_and_ranks_on_gpus_keep_all():
    every = os.sched_getaffinity(0)
    assert run_ranks(cpus_after, 1, "cpu") == [(every, every)]
    assert run_ranks(cpus_after, 2, "cuda") == [(every, every)] * 2


def test_a_rank_that_was_given_cpus_keeps_to_these():
    given = {max(os.sched_getaffinity(0))}
    assert [own for _, own in run_ranks(cpus_after, 2, "cpu", given)] == [given] * 2
