"""Codes that need no vector: paths of names, hashes, a file."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.model.tokenizers.columns import Columns
from foundrank.model.tokenizers.given import Given
from foundrank.model.tokenizers.items import Codebook, Items
from foundrank.model.tokenizers.random_codes import RandomCodes

METHOD = Columns(columns=("a", "b"), size=8)
NAMES = st.sampled_from(["x", "y", "z", "ü", "", None])
ROWS = st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=30)


def items_of(rows: list[Any], keys: np.ndarray | None = None, seed: int = 0) -> Items:
    kinds = pa.schema({"a": pa.string(), "b": pa.string()})
    table = pa.Table.from_pylist([{"a": a, "b": b} for a, b in rows], schema=kinds)
    return Items(np.arange(len(rows), dtype=np.uint64) if keys is None else keys, None, table, seed)


def codes_of(codebook: Codebook, rows: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in METHOD.codes(codebook, items_of(rows), np.arange(len(rows))).tolist()]


def plain(rows: list[Any]) -> list[tuple[str, str]]:
    """A name that is missing is the empty one."""
    return [(a or "", b or "") for a, b in rows]


@given(rows=ROWS, seed=st.integers(0, 99))
def test_equal_paths_have_equal_codes_and_numbers_are_those_within_a_parent(rows, seed):
    codebook = METHOD.fit(items_of(rows))
    found = codes_of(codebook, rows)
    of_path = dict(zip(plain(rows), found, strict=True))
    assert [of_path[path] for path in plain(rows)] == found
    assert len(set(of_path.values())) == len(of_path)
    firsts = {a: code[0] for (a, _), code in of_path.items()}
    assert sorted(firsts.values()) == list(range(len(firsts)))
    for a in firsts:
        below = [code[1] for path, code in of_path.items() if path[0] == a]
        assert sorted(below) == list(range(len(below)))
    order = np.random.default_rng(seed).permutation(len(rows))
    again = [rows[at] for at in order]
    other = METHOD.fit(items_of(again))
    assert all(np.array_equal(other[name], codebook[name]) for name in codebook)
    assert codes_of(other, again) == [found[at] for at in order]


@given(rows=ROWS, more=ROWS)
def test_further_names_come_after_those_that_have_numbers(rows, more):
    before = METHOD.fit(items_of(rows))
    after = METHOD.extended(before, items_of(more))
    assert codes_of(after, rows) == codes_of(before, rows)
    of_path = dict(zip(plain(rows + more), codes_of(after, rows + more), strict=True))
    assert len(set(of_path.values())) == len(of_path)
    old = set(plain(rows))
    firsts = {a: of_path[a, b][0] for a, b in of_path}
    assert all(firsts[a] < firsts[new] for a, _ in old for new in firsts if new not in {a for a, _ in old})
    assert sorted(firsts.values()) == list(range(len(firsts)))
    for a in firsts:
        mine = {path: code[1] for path, code in of_path.items() if path[0] == a}
        assert sorted(mine.values()) == list(range(len(mine)))
        assert all(mine[path] < mine[new] for path in mine if path in old for new in mine if new not in old)


def test_the_number_of_a_name_is_not_its_place_in_the_alphabet_or_the_catalog():
    method = Columns(columns=("a",), size=64)
    rows = [(f"name {at:02d}", None) for at in range(60)]
    found = method.codes(method.fit(items_of(rows)), items_of(rows), np.arange(60))[:, 0]
    assert sorted(found) == list(range(60))
    assert abs(np.corrcoef(found, np.arange(60))[0, 1]) < 0.4


def test_more_names_than_values_are_refused_by_the_column():
    rows = [("x", f"name {at}") for at in range(9)]
    METHOD.fit(items_of(rows[:8]))
    with pytest.raises(UserError, match=r"codes.size: 8: is fewer than the 9 different values of column 'b'.*coarser"):
        METHOD.fit(items_of(rows))
    with pytest.raises(UserError, match="9 different values of column 'a'"):
        METHOD.fit(items_of([(name, "x") for _, name in rows]))
    with pytest.raises(UserError, match="9 different values of column 'b'"):
        METHOD.extended(METHOD.fit(items_of(rows[:8])), items_of(rows[8:]))
    METHOD.fit(items_of([(f"{at}", f"{at}{number}") for at in range(8) for number in range(8)]))


def test_random_codes_are_of_the_id_and_the_seed_alone():
    method = RandomCodes(levels=3, size=16)
    keys = np.random.default_rng(0).permutation(9000)[:3000].astype(np.uint64)
    items = items_of([("x", "x")] * 3000, keys)
    found = method.codes({}, items, np.arange(3000))
    assert np.array_equal(method.codes({}, items, np.array([9, 2])), found[[9, 2]])
    other = items_of([("x", "x")] * 2, keys[[9, 2]])
    assert np.array_equal(method.codes({}, other, np.arange(2)), found[[9, 2]])
    assert not np.array_equal(method.codes({}, items_of([("x", "x")] * 3000, keys, 1), np.arange(3000)), found)
    for level in found.T:
        counts = np.bincount(level, minlength=16)
        assert counts.min() > 120
        assert counts.max() < 260
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.1


def test_given_codes_are_those_of_the_file(tmp_path):
    path = str(tmp_path / "codes.parquet")
    pq.write_table(pa.table({"key": [30, 10, 20], "codes": [[1, 2], [0, 3], [1, 1]]}), path)
    method = Given(path=path, sizes_of_levels=(2, 4))
    items = items_of([("x", "x")] * 4, np.array([10, 15, 20, 30], np.uint64))
    assert method.known(items).tolist() == [True, False, True, True]
    assert method.codes({}, items, np.array([3, 0])).tolist() == [[1, 2], [0, 3]]
    assert method.sizes == (2, 4)
    with pytest.raises(UserError, match=r"outside its level \(2, 3 values\)"):
        Given(path=path, sizes_of_levels=(2, 3)).known(items)
