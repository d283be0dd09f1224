"""Numbers become rows by boundaries, given or of equal size, which are exact however the numbers came."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.data.vocabulary.buckets import Buckets, NumberCounts
from foundrank.data.vocabulary.encoding import TABLES

NUMBERS = st.lists(st.sampled_from([-2.5, -0.0, 0.0, 1e-30, 1.0, 2.0, 3.0, 1e30]), max_size=30)


def counted(parts, boundaries, buckets, weights=None) -> Buckets:
    counts = NumberCounts(boundaries, buckets)
    for part in parts:
        values = np.array(part, float)
        counts.add(values, np.ones(len(part), bool), weights)
    return counts.table()


@settings(max_examples=40)
@given(st.lists(NUMBERS, min_size=1, max_size=3), st.integers(2, 5))
def test_buckets_of_equal_size_are_exact_whatever_the_parts(parts, buckets):
    every = sorted(float(np.float32(value)) + 0.0 for part in parts for value in part)
    table = counted(parts, None, buckets)
    at = [every[k * len(every) // buckets] for k in range(1, buckets)] if every else []
    wanted = set(at) | {
        min((v for v in every if v > one), default=one) for one in at if at.count(one) > 1 or one == every[0]
    }
    assert table.boundaries.tolist() == sorted(wanted - set(every[:1]))
    assert table.rows - 1 <= buckets
    assert table.counts.tolist() == [0, *np.bincount(table.lookup(np.array(every)) - 1, minlength=table.rows - 1)]
    assert (table.counts[1:] > 0).all() or not every
    assert counted([every], None, buckets).boundaries.tolist() == table.boundaries.tolist()


@pytest.mark.parametrize(
    ("values", "buckets", "boundaries"),
    [
        ([0] * 95 + [1, 2, 3, 4, 5], 10, [1]),
        ([0] * 60 + [1] * 40, 2, [1]),
        ([0] * 5 + [1] * 90 + [2] * 5, 10, [1, 2]),
        ([0] * 5 + [1] * 90 + [2] * 5, 2, [1]),
        ([0] * 50 + list(range(1, 51)), 4, [1, 26]),
        ([0] * 5 + [1] * 95, 10, [1]),
        ([7] * 9, 3, []),
    ],
)
def test_a_number_that_most_rows_have_has_a_bucket_to_itself(values, buckets, boundaries):
    assert counted([values], None, buckets).boundaries.tolist() == boundaries


def test_a_number_at_a_boundary_belongs_above_it_and_weights_count():
    table = counted([[0.0, 1.0, 1.5, 2.0]], (1.0, 2.0), 0, np.array([5, 1, 0, 2]))
    assert table.lookup(np.array([-9.0, 0.999, 1.0, 1.999, 2.0, 9e9])).tolist() == [1, 1, 2, 2, 3, 3]
    assert table.counts.tolist() == [0, 5, 1, 2]
    assert (
        counted([[1.0, 2.0]], None, 2, np.array([9, 0])).boundaries.tolist() == []
    )  # the catalog's other item is never shown


@pytest.mark.parametrize(("boundaries", "buckets"), [((0.7,), 0), (None, 2)])
def test_a_number_is_in_the_same_bucket_in_32_bits_and_in_64(boundaries, buckets, tmp_path):
    double, single = np.array([0.1, 0.7]), np.array([0.1, 0.7], np.float32).astype(np.float64)
    for numbers in (double, single):
        table = counted([numbers], boundaries, buckets)
        assert table.counts.tolist() == [0, 1, 1]
        table.save(tmp_path / "table.parquet")
        for kept in (table, Buckets.load(tmp_path / "table.parquet")):
            assert kept.lookup(double).tolist() == kept.lookup(single).tolist() == [1, 2]
    assert counted([double, single], None, 4).boundaries.tolist() == [np.float32(0.7)]


def test_a_table_is_kept_and_extended(tmp_path):
    of_sizes, given_ones = counted([[1.0, 2.0, 3.0, 4.0]], None, 2), counted([[0.0, 5.0]], (1.0,), 0)
    for table in (of_sizes, given_ones):
        table.save(tmp_path / "table.parquet")
        again = TABLES["buckets"].load(tmp_path / "table.parquet")
        assert (again.boundaries.tolist(), again.counts.tolist(), again.asked) == (
            table.boundaries.tolist(), table.counts.tolist(), table.asked,
        )  # fmt: skip
    new = counted([[7.0, 8.0, 9.0]], None, 2)
    assert of_sizes.fits(new)
    assert of_sizes.extended(new).boundaries.tolist() == [3.0]
    assert given_ones.extended(given_ones).counts.tolist() == [0, 2, 2]
    assert not of_sizes.fits(counted([[1.0]], None, 3))
    assert not of_sizes.fits(given_ones)
    assert not given_ones.fits(counted([], (2.0,), 0))
    (tmp_path / "table.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match="is damaged"):
        Buckets.load(tmp_path / "table.parquet")
