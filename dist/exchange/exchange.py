"""Columns of rows from rank to rank, over the hosts, so many rows at a time."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.distributed as torch_dist
from numpy.typing import NDArray

from ..ranks.runtime import Runtime

AT_ONCE = 1 << 16
"""Rows that a rank sends at one time."""
PIECE = 1 << 14
"""Rows that come to rank 0 at one time, where it takes them beside what every rank has: a megabyte or two."""


def each(values: NDArray, runtime: Runtime) -> NDArray:
    """``[R, ...]`` every rank's values ``[...]``, in rank order, on every rank; of one shape and type. A collective."""
    values = np.asarray(values)
    if runtime.world_size == 1:
        return values[None]
    mine = _bytes(values)
    found = [torch.empty_like(mine) for _ in range(runtime.world_size)]
    torch_dist.all_gather(found, mine, group=runtime.group)
    return np.stack([of.numpy().view(values.dtype).reshape(values.shape) for of in found])


def exchange(columns: Sequence[NDArray], target: NDArray, runtime: Runtime) -> tuple[list[NDArray], NDArray]:
    """Sends each row to a rank. A collective, in which every rank has the same columns, though it may have no rows.

    Args:
        columns: ``[N, ...]`` each.
        target: ``[N]`` int, the rank that each row goes to.
        runtime: the process group.

    Returns:
        Columns ``[M, ...]`` of the rows that came here, those of rank 0 first and each rank's in their order; ``[R]`` how many came
        from each.
    """
    ranks = runtime.world_size
    if ranks == 1:
        return list(columns), np.array([len(target)])
    kind = row_type(columns)
    sent = each(np.bincount(target, minlength=ranks), runtime)  # [from, to]
    came = sent[:, runtime.rank]
    out, at = np.empty(came.sum(), kind), np.cumsum(came) - came
    for start in range(0, int(sent.sum(1).max()), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        order = np.argsort(target[part], kind="stable")
        rows = packed([column[part][order] for column in columns], kind)
        ends = np.cumsum(np.bincount(target[part], minlength=ranks))[:-1]
        for rank, of_rank in enumerate(runtime.exchange(np.split(rows, ends))):
            out[at[rank] : at[rank] + len(of_rank)] = of_rank
            at[rank] += len(of_rank)
    return [np.ascontiguousarray(out[name]) for name in kind.names or ()], came


def pieces_on_main(columns: Mapping[str, NDArray], counts: NDArray, runtime: Runtime) -> Iterator[dict[str, NDArray]]:
    """All ranks' rows on rank 0, a piece of at most `PIECE` after the other. Every rank has to go through it to its end.

    Args:
        columns: ``[N, ...]`` each, the same on every rank.
        counts: ``[P]`` how many of this rank's rows, which are in this order, are in each of the parts, of which each rank has some.
        runtime: the process group.

    Yields:
        On rank 0 the first part's rows, rank after rank, then the second's; elsewhere nothing.
    """
    kind, of_ranks = row_type(list(columns.values())), each(counts, runtime)
    at = 0
    for part in range(len(counts)):
        for rank in range(runtime.world_size):
            for start in range(0, int(of_ranks[rank, part]), PIECE):
                rows = min(PIECE, int(of_ranks[rank, part]) - start)
                mine = {name: column[at : at + rows] for name, column in columns.items()}
                if rank == runtime.rank:
                    at += rows
                if runtime.is_main and rank == 0:
                    yield mine
                elif runtime.is_main:
                    came = np.empty(rows, kind)
                    torch_dist.recv(_bytes(came), src=rank, group=runtime.group)
                    yield {name: np.ascontiguousarray(came[str(number)]) for number, name in enumerate(columns)}
                elif rank == runtime.rank:
                    torch_dist.send(_bytes(packed(list(mine.values()), kind)), dst=0, group=runtime.group)


def row_type(columns: Sequence[NDArray]) -> np.dtype:
    """One row of all columns."""
    return np.dtype([(str(at), column.dtype, column.shape[1:]) for at, column in enumerate(columns)])


def packed(columns: Sequence[NDArray], kind: np.dtype) -> NDArray:
    """``[N]`` rows of columns, as of `row_type`."""
    rows = np.empty(len(columns[0]), kind)
    for at, column in enumerate(columns):
        rows[str(at)] = column
    return rows


def _bytes(values: NDArray) -> torch.Tensor:
    """The same memory, where it is contiguous."""
    return torch.from_numpy(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
