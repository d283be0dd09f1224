import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import hash_rows, id_keys, mix
from foundrank.data.errors import UserError

STRING_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
MODEST = settings(max_examples=40)


def keys_of(values, kind=None) -> list:
    """Keys as Python ints, None where null."""
    keys, valid = id_keys(pa.array(values, kind))
    assert keys.dtype == np.uint64
    assert valid.dtype == bool
    assert (keys[~valid] == 0).all()
    return [int(k) if v else None for k, v in zip(keys, valid, strict=True)]


# Tables saved by one version are read by the next: these values may never change.
def test_pinned_strings():
    pinned = {
        "": 16294208416658607535,
        "a": 6475657247215832628,
        "u1": 15148756606723212460,
        "user_123": 11520816500959415814,
        "naïve": 14765888217146872532,
        "日本": 855067889519909144,
        "a" * 40: 13055739093986093766,
    }
    assert keys_of(list(pinned)) == list(pinned.values())


def test_pinned_rows():
    assert hash_rows(np.array([0, 1, 2**63, 2**64 - 1], np.uint64), 1000).tolist() == [536, 466, 916, 937]
    assert int(mix(np.array([0], np.uint64))[0]) == 0xE220A8397B1DCDAF  # SplitMix64's first output for seed 0


def test_an_integer_is_its_own_key():
    values = [0, 1, -1, 2**62, -(2**63), None]
    assert keys_of(values, pa.int64()) == [0, 1, 2**64 - 1, 2**62, 2**63, None]
    for kind in (pa.int8(), pa.uint8(), pa.int32(), pa.uint64(), pa.dictionary(pa.int8(), pa.int32())):
        assert keys_of([5, None, 100, 5], kind) == [5, None, 100, 5]
    assert keys_of([2**64 - 1], pa.uint64()) == [2**64 - 1]


@MODEST
@given(
    st.one_of(
        st.lists(st.text(max_size=12), min_size=3, max_size=20),
        st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=20),
    ),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_every_string_type_and_slice_gives_the_same_keys(values, skip, cut):
    alone = [None if v is None else keys_of([v], pa.string())[0] for v in values]
    for kind in STRING_TYPES:
        assert keys_of(values, kind) == alone
        array = pa.array(values, kind)
        part = array.slice(skip, max(len(values) - skip - cut, 0))
        keys, valid = id_keys(part)
        assert [int(k) if v else None for k, v in zip(keys, valid, strict=True)] == alone[skip : skip + len(part)]
        chunked = pa.chunked_array([array.slice(0, skip), array.slice(skip)], kind)
        assert id_keys(chunked)[0].tolist() == id_keys(array)[0].tolist()


@MODEST
@given(st.lists(st.text(max_size=8), unique=True, max_size=30))
def test_distinct_strings_have_distinct_keys(values):
    assert len(set(keys_of(values, pa.string()))) == len(values)


def test_no_collision_among_many_similar_strings():
    numbered = [f"item_{i:06d}" for i in range(100_000)] + [str(i) for i in range(100_000)]
    keys, _ = id_keys(pa.array(numbered))
    assert len(np.unique(keys)) == len(numbered)
    padded, _ = id_keys(pa.array(["\0" * n for n in range(1000)]))
    assert len(np.unique(padded)) == 1000


def test_nulls_inside_a_dictionary_are_null():
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), pa.array([None, "x"]))
    _, valid = id_keys(array)
    assert valid.tolist() == [False, True, False]


@pytest.mark.parametrize("kind", [pa.null(), *STRING_TYPES, pa.int32()])
def test_only_nulls_and_nothing(kind):
    assert keys_of([None, None], kind) == [None, None]
    assert keys_of([], kind) == []
    assert id_keys(pa.chunked_array([], kind))[0].tolist() == []


def test_other_types_are_refused():
    with pytest.raises(UserError, match=r"double.*neither integers nor strings"):
        id_keys(pa.array([1.5]))


@MODEST
@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 10**6))
def test_hash_rows_are_in_range(keys, buckets):
    rows = hash_rows(np.array(keys, np.uint64), buckets)
    assert ((rows >= 1) & (rows <= buckets)).all()


def test_hash_rows_spread_evenly():
    for keys in (np.arange(100_000, dtype=np.uint64), np.arange(100_000, dtype=np.uint64) << np.uint64(20)):
        counts = np.bincount(hash_rows(keys, 100), minlength=101)[1:]
        # 1000 expected each; chi-squared of 99 degrees of freedom is below 160 with probability 0.9999.
        assert ((counts - 1000.0) ** 2 / 1000).sum() < 160
