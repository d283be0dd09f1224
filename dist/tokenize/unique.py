"""Telling apart items whose codes are the same: by further digits, or by dealing out the last level."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...data.arrow.ids import mix
from ...data.content_kinds.codes import DIGIT_VALUES
from ...data.errors import UserError

_SINKHORN = 30  # iterations
_TEMPERATURE = 0.05  # of the mean distance


def groups_of(codes: np.ndarray) -> np.ndarray:
    """``[C]`` int64: a number for the codes ``[C, M]`` of each item, the same for the same codes."""
    _, group = np.unique(codes, axis=0, return_inverse=True)
    return group.reshape(-1).astype(np.int64)


def digits(codes: np.ndarray, keys: np.ndarray, held: np.ndarray, levels: int) -> np.ndarray:
    """``[C, levels]`` further codes, different for items whose codes are the same.

    Those of one group are numbered by a hash of their ids: the order of a catalog, which may tell what came when, says nothing.

    Args:
        codes: ``[C, L]``.
        keys: ``[C]`` uint64 of the items.
        held: ``[H, levels]``, of the first H items, which keep theirs.
        levels: of `DIGIT_VALUES` values.

    Raises:
        UserError: more items have the same codes than there are numbers.
    """
    group, most = groups_of(codes), DIGIT_VALUES**levels
    weights = DIGIT_VALUES ** np.arange(levels - 1, -1, -1)
    number = np.zeros(len(codes), np.int64)
    number[: len(held)] = held.astype(np.int64) @ weights
    next_free = np.zeros(group.max(initial=-1) + 1, np.int64)
    np.maximum.at(next_free, group[: len(held)], number[: len(held)] + 1)
    new = np.arange(len(held), len(codes))
    order = new[np.lexsort((mix(keys[new]), group[new]))]
    begins = np.append(True, group[order][1:] != group[order][:-1])[: len(order)]
    place = np.arange(len(order)) - np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    number[order] = place + next_free[group[order]]
    if number.max(initial=0) >= most:
        raise UserError(
            "codes.digits" if levels > 1 else "codes.unique: digit",
            f"tells {most:,} items apart, and {number.max() + 1:,} have the same codes",
            "Set more digits, more levels or more values, or unique: shared.",
        )
    return number[:, None] // weights % DIGIT_VALUES


def deal_out(
    codes: np.ndarray, keys: np.ndarray, held: int, size: int, costs: Callable[[np.ndarray], Tensor]
) -> np.ndarray:
    """Codes ``[C, L]`` whose last level differs where all others are the same, each item's as near as can be.

    An item that is like no other keeps what it has. Of those that are alike Sinkhorn's iteration (Cuturi, 2013; LC-Rec, Zheng et al., 2024) says who wants which value, and the
    values are given to those who want them most, of equals by a hash.

    Args:
        codes: ``[C, L]``.
        keys: ``[C]`` uint64 of the items.
        held: so many items, the first ones, keep theirs.
        size: values of the last level.
        costs: gives ``[n, size]`` how far items at positions ``[n]`` are from each value.

    Raises:
        UserError: more items have the same codes before the last level than it has values.
    """
    codes = codes.copy()
    full, group = groups_of(codes), groups_of(codes[:, :-1])
    alike = np.bincount(full)[full] > 1
    alike[:held] = False
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.searchsorted(ordered, np.unique(group[alike]))
    for start in starts:
        members = order[start : np.searchsorted(ordered, ordered[start], "right")]
        old, new = members[~alike[members]], members[alike[members]]
        if len(members) > size:
            raise UserError(
                "codes.unique: sinkhorn",
                f"has {size:,} values to deal out, and {len(members):,} items have the same codes before the last level",
                "Set more values or levels, or unique: digit.",
            )
        free = np.setdiff1d(np.arange(size), codes[old, -1])
        wanted = _wanted(costs(new)[:, torch.from_numpy(free)]).numpy()
        row, column = np.unravel_index(np.argsort(-wanted, axis=None, kind="stable"), wanted.shape)
        by_hash = np.lexsort((mix(keys[new])[row], -wanted[row, column]))
        given, taken = np.full(len(new), -1), np.zeros(len(free), bool)
        for at in by_hash:
            if given[row[at]] < 0 and not taken[column[at]]:
                given[row[at]], taken[column[at]] = free[column[at]], True
        codes[new, -1] = given
    return codes


def _wanted(costs: Tensor) -> Tensor:
    """``[n, F]`` shares of a plan that gives each of n items one value, and no value more than one."""
    scale = (costs - costs.amin(1, keepdim=True)).mean().clamp_min(1e-9) * _TEMPERATURE
    plan = (-(costs - costs.amin(1, keepdim=True)) / scale).double().exp() + 1e-30
    for _ in range(_SINKHORN):
        plan = plan / plan.sum(0, keepdim=True).clamp_min(1)
        plan = plan / plan.sum(1, keepdim=True)
    return plan


def quality(codes: np.ndarray, sizes: Sequence[int]) -> dict[str, object]:
    """How well codes ``[C, M]`` tell items apart, as the manifest has it: ``levels``, each with its entropy in bits and how many of its
    values are no item's; ``alike``, items that have their codes with others; ``largest``, how many have the same at most."""
    levels = []
    for column, size in zip(codes.T, sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        shares = counts[counts > 0] / max(len(codes), 1)
        entropy = max(0.0, float(-(shares * np.log2(shares)).sum())) + 0.0
        levels.append({"values": size, "entropy": round(entropy, 4), "dead": int((counts == 0).sum())})
    many = np.bincount(groups_of(codes)) if len(codes) else np.zeros(0, np.int64)
    return {"levels": levels, "alike": int(many[many > 1].sum()), "largest": int(many.max(initial=0))}
