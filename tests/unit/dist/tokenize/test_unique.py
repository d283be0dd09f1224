"""Telling alike items apart, and how well codes do."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.arrow.ids import mix
from foundrank.data.content_kinds.codes import DIGIT_VALUES
from foundrank.data.errors import UserError
from foundrank.dist.tokenize.unique import deal_out, digits, groups_of, quality

NONE = np.zeros((0, 1), np.int64)


def some_codes(seed: int, items: int, values: int = 3, levels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Codes of which many are the same, and keys."""
    random = np.random.default_rng(seed)
    return random.integers(0, values, (items, levels)), random.permutation(10 * items)[:items].astype(np.uint64)


@given(seed=st.integers(0, 999), items=st.integers(0, 60), values=st.integers(1, 5))
def test_a_group_has_one_number(seed, items, values):
    codes, _ = some_codes(seed, items, values)
    group = groups_of(codes)
    for one in range(items):
        assert ((group == group[one]) == (codes == codes[one]).all(1)).all()


@given(seed=st.integers(0, 999), items=st.integers(0, 60), held=st.integers(0, 60), levels=st.integers(1, 2))
def test_digits_tell_a_group_apart_by_hash_and_held_ones_stay(seed, items, held, levels):
    codes, keys = some_codes(seed, items)
    first = digits(codes, keys, np.zeros((0, levels), np.int64), levels)
    assert first.shape == (items, levels)
    told = np.concatenate([codes, first], 1)
    assert len({tuple(row) for row in told.tolist()}) == items
    members = defaultdict(list)
    for row in sorted(range(items), key=lambda row: mix(keys[row : row + 1])[0]):
        members[tuple(codes[row])].append(row)
    weights = DIGIT_VALUES ** np.arange(levels - 1, -1, -1)
    for group in members.values():
        assert (first[group] @ weights).tolist() == list(range(len(group)))

    order = np.random.default_rng(seed).permutation(items)
    assert np.array_equal(digits(codes[order], keys[order], np.zeros((0, levels), np.int64), levels), first[order])

    held = min(held, items)
    of_held = digits(codes[:held], keys[:held], np.zeros((0, levels), np.int64), levels)
    more = digits(codes, keys, of_held.astype(np.uint16), levels)
    assert np.array_equal(more[:held], of_held)
    assert len({tuple(row) for row in np.concatenate([codes, more], 1).tolist()}) == items


def test_the_place_in_the_catalog_says_nothing():
    keys = np.arange(200, dtype=np.uint64)
    found = digits(np.zeros((200, 1), np.int64), keys, NONE, 1)[:, 0]
    assert abs(np.corrcoef(found, keys)[0, 1]) < 0.2


def test_more_alike_items_than_numbers_are_refused():
    for levels, many in ((1, DIGIT_VALUES), (2, DIGIT_VALUES + 1)):
        codes, keys = np.zeros((many, 1), np.int64), np.arange(many, dtype=np.uint64)
        assert len({tuple(row) for row in digits(codes, keys, np.zeros((0, levels)), levels).tolist()}) == many
    codes, keys = np.zeros((DIGIT_VALUES + 1, 1), np.int64), np.arange(DIGIT_VALUES + 1, dtype=np.uint64)
    with pytest.raises(UserError, match=r"digit: tells 256 items apart, and 257 have the same codes.*more digits"):
        digits(codes, keys, NONE, 1)
    held = np.full((1, 1), DIGIT_VALUES - 1)
    with pytest.raises(UserError, match="257 have the same codes"):
        digits(codes[:2], keys[:2], held, 1)


def costs_of(seed: int, items: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(1, 5, (items, size))).float()


@given(seed=st.integers(0, 999), items=st.integers(0, 40), held=st.integers(0, 40))
def test_dealing_out_tells_a_group_apart_and_moves_no_other(seed, items, held):
    size, held = 40, min(held, items)
    codes, keys = some_codes(seed, items)
    codes[:held] = np.stack([codes[:held, 0], size - 1 - np.arange(held)], 1)  # those that are held differ
    costs = costs_of(seed, items, size)
    found = deal_out(codes, keys, held, size, lambda at: costs[torch.from_numpy(at)])
    assert len({tuple(row) for row in found.tolist()}) == items
    assert np.array_equal(found[:, :-1], codes[:, :-1])
    assert np.array_equal(found[:held], codes[:held])
    assert ((found >= 0) & (found < size)).all()
    crowded = Counter(map(tuple, codes.tolist()))
    troubled = {row[0] for row in codes.tolist() if crowded[tuple(row)] > 1}
    for row in range(items):
        if codes[row, 0] not in troubled:
            assert found[row, 1] == codes[row, 1]
    order = np.concatenate([np.arange(held), held + np.random.default_rng(seed).permutation(items - held)])
    again = deal_out(codes[order], keys[order], held, size, lambda at: costs[torch.from_numpy(order[at])])
    assert np.array_equal(again, found[order])


def test_values_go_to_those_who_want_them_most():
    codes = np.zeros((3, 2), np.int64)
    costs = torch.tensor([[0.0, 9, 9, 1], [0.0, 1, 9, 9], [0.0, 9, 5, 9]])
    found = deal_out(codes, np.arange(3, dtype=np.uint64), 0, 4, lambda at: costs[torch.from_numpy(at)])
    assert found[:, 1].tolist() == [3, 1, 0]  # the last one would lose most, and no value is taken twice


def test_more_alike_items_than_values_are_refused():
    codes, keys = np.zeros((5, 2), np.int64), np.arange(5, dtype=np.uint64)
    with pytest.raises(UserError, match=r"sinkhorn: has 4 values to deal out, and 5 items"):
        deal_out(codes, keys, 0, 4, lambda at: torch.zeros(len(at), 4))


@given(seed=st.integers(0, 999), items=st.integers(0, 40))
def test_the_quality_is_that_of_a_slow_count(seed, items):
    codes, sizes = some_codes(seed, items)[0], (3, 5)
    told = quality(codes, sizes)
    many = Counter(map(tuple, codes.tolist()))
    assert told["alike"] == sum(count for count in many.values() if count > 1)
    assert told["largest"] == max(many.values(), default=0)
    for level, (found, size) in enumerate(zip(told["levels"], sizes, strict=True)):
        counts = Counter(codes[:, level].tolist())
        assert found["values"] == size
        assert found["dead"] == size - len(counts)
        bits = -sum(count / items * math.log2(count / items) for count in counts.values())
        assert found["entropy"] == pytest.approx(bits, abs=1e-4)
