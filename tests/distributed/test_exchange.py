"""Rows go to the ranks that are to have them, in order, whole, and a bounded number at a time."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from foundrank.dist.exchange import exchange as exchanging
from foundrank.dist.exchange.exchange import each, exchange, pieces_on_main
from foundrank.dist.exchange.over_ranks import OverRanks
from foundrank.dist.ranks.runtime import Runtime

from .harness import run_ranks

Columns = dict[str, np.ndarray]


def rows_of(rank: int, rows: int) -> Columns:
    random = np.random.default_rng(rank)
    return {
        "flag": random.random(rows) < 0.5,
        "label": random.random((rows, 2)).astype(np.float32),
        "user": random.integers(0, 2**64, rows, np.uint64),
        "number": np.arange(rows) + 1000 * rank,
    }


def sent(runtime: Runtime, sizes: list[int]) -> tuple[Columns, np.ndarray, np.ndarray]:
    exchanging.AT_ONCE = 7
    columns = rows_of(runtime.rank, sizes[runtime.rank])
    target = (columns["user"] % np.uint64(runtime.world_size)).astype(int)
    came, counts = exchange(list(columns.values()), target, runtime)
    return dict(zip(columns, came, strict=True)), counts, each(np.array([[runtime.rank]]), runtime)


@pytest.mark.parametrize("sizes", [[20, 3], [0, 25], [0, 0], [9, 0, 40]])
def test_rows_come_in_the_order_of_ranks_and_of_each_ranks_rows(sizes):
    for rank, (came, counts, ranks) in enumerate(run_ranks(sent, len(sizes), sizes)):
        wanted = [rows_of(other, size) for other, size in enumerate(sizes)]
        here = [of["user"] % np.uint64(len(sizes)) == rank for of in wanted]
        assert counts.tolist() == [int(mask.sum()) for mask in here]
        for name, values in came.items():
            of_name = np.concatenate([of[name][mask] for of, mask in zip(wanted, here, strict=True)])
            assert values.dtype == of_name.dtype
            np.testing.assert_array_equal(values, of_name)
        assert ranks.tolist() == [[[other]] for other in range(len(sizes))]


def on_main(runtime: Runtime, counts: list[list[int]]) -> list[Columns]:
    exchanging.PIECE = 6
    mine = counts[runtime.rank]
    return list(pieces_on_main(rows_of(runtime.rank, sum(mine)), np.array(mine), runtime))


def test_pieces_on_rank_0_are_part_after_part_and_rank_after_rank():
    counts = [[3, 0, 20], [0, 0, 0], [8, 2, 1]]
    pieces, *rest = run_ranks(on_main, 3, counts)
    assert rest == [[], []]
    assert max(len(piece["number"]) for piece in pieces) == 6
    everyone = [rows_of(rank, sum(of_rank)) for rank, of_rank in enumerate(counts)]
    starts = [np.cumsum([0, *of_rank]) for of_rank in counts]
    for name in everyone[0]:
        wanted = [
            of[name][at[part] : at[part + 1]] for part in range(3) for of, at in zip(everyone, starts, strict=True)
        ]
        np.testing.assert_array_equal(np.concatenate([piece[name] for piece in pieces]), np.concatenate(wanted))


def by_value_and_group(runtime: Runtime, keys: list[np.ndarray]) -> list[Any]:
    spread, mine = OverRanks(runtime), np.unique(keys[runtime.rank])
    (came, none, doubled), back = spread.by_value(mine, None, 2 * mine)
    assert none is None
    np.testing.assert_array_equal(doubled, 2 * came)
    np.testing.assert_array_equal(back(came + 1), mine + 1)
    groups = np.abs(np.nan_to_num(mine)).astype(np.uint64) % np.uint64(50)
    (of_groups, values), back = spread.by_group(groups, mine)
    np.testing.assert_array_equal(back(values), mine)
    assert spread.told(("any", runtime.rank)) == [("any", rank) for rank in range(runtime.world_size)]
    return [came, set(of_groups.tolist())]


NORMAL = np.random.default_rng(0).normal(0, 1000, 6000)


@pytest.mark.parametrize(
    "keys",
    [
        [NORMAL[:3000], NORMAL[3000:]],
        [NORMAL[:100], NORMAL[50:5000], NORMAL[:0]],
        [np.array([1.0, np.nan]), np.array([np.nan, 0.0])],
        [np.array([], np.float32)] * 2,
        [np.array([3, 4, 2**62]), np.array([4])],
    ],
    ids=["even", "uneven", "nan", "none", "whole"],
)
def test_ranges_rise_and_are_of_about_as_many_rows_and_a_group_is_on_one_rank(keys):
    found = run_ranks(by_value_and_group, len(keys), keys)
    distinct = [np.unique(of) for of in keys]
    np.testing.assert_array_equal(
        np.sort(np.concatenate([came for came, _ in found])), np.sort(np.concatenate(distinct))
    )
    filled = [np.sort(came) for came, _ in found if len(came)]
    for below, above in pairwise(filled):
        assert below[-1] < above[0] or (np.isnan(above[0]) and not np.isnan(below[-1]))
    rows = sum(len(of) for of in distinct)
    if rows > 1000:
        assert max(len(came) for came, _ in found) < rows / len(keys) + rows / 100
    groups = [of for _, of in found]
    assert sum(map(len, groups)) == len(set().union(*groups))
