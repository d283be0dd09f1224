"""Runs a test's function on R ranks of this machine, with a deadline and every rank's traceback."""

import gc
import multiprocessing
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
import torch
import torch.distributed as torch_dist

from foundrank.dist.ranks.runtime import Runtime

from ..warm_commands import PRELOADED

_GRACE = 3.0  # seconds the other ranks get to say what went wrong, once one has failed


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any, deadline: float = 60.0) -> list[Any]:
    """Calls ``function(runtime, *arguments)`` on every rank of a gloo group.

    The processes are forked from a server that has imported torchrec already; they meet in a file, so no port is taken.

    Args:
        function: of a module, so that it can be pickled.
        world_size: R.
        arguments: pickled to every rank.
        deadline: seconds until the ranks are killed and the test fails.

    Returns:
        What each rank returned, in rank order.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(world_size)]
        ranks = [
            context.Process(target=_rank, args=(send, function, rank, world_size, folder, arguments), daemon=True)
            for rank, (_, send) in enumerate(pipes)
        ]
        for rank in ranks:
            rank.start()
        for _, send in pipes:
            send.close()  # a rank that dies without a word then reads as end of file
        try:
            results, failures = _collect({receive: r for r, (receive, _) in enumerate(pipes)}, deadline)
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
    if failures:
        pytest.fail("\n".join(text for _, text in sorted(failures)), pytrace=False)
    return [results[rank] for rank in range(world_size)]


def _collect(waiting: dict[Connection, int], deadline: float) -> tuple[dict[int, Any], list[tuple[float, str]]]:
    """Each rank's result, and (time, text) of each failure."""
    results: dict[int, Any] = {}
    failures: list[tuple[float, str]] = []
    end = time.time() + deadline
    while waiting:
        ready = wait(list(waiting), timeout=max(end - time.time(), 0))
        if not ready:
            silent = ", ".join(str(rank) for rank in sorted(waiting.values()))
            what = "were ended with the failed one" if failures else f"did not finish in {deadline:g} s"
            failures.append((float("inf"), f"rank(s) {silent} {what}"))
            break
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = waiting.pop(pipe)
            try:
                when, result, trace = pipe.recv()
            except EOFError:
                when, result, trace = time.time(), None, "died without a traceback"
            if trace is None:
                results[rank] = result
            else:
                failures.append((when, f"rank {rank}: {trace}"))
                end = min(end, time.time() + _GRACE)
    return results, failures


def _rank(
    pipe: Connection, function: Callable[..., Any], rank: int, world_size: int, folder: str, arguments: tuple
) -> None:
    gc.freeze()  # what is imported stays
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ.update({"LOCAL_WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)})
    try:
        torch_dist.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size, timeout=timedelta(minutes=5)
        )
        result = function(Runtime(rank, world_size, torch.device("cpu")), *arguments)
        torch_dist.barrier()
        pipe.send((time.time(), result, None))
    except BaseException:
        pipe.send((time.time(), None, traceback.format_exc()))
    finally:
        pipe.close()
        # Whatever a failed collective left behind must not keep the process.
        os._exit(0)
