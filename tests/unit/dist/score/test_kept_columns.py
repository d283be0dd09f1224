"""A column that is passed on has one type in all parts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.dist.score.hive_columns import HiveColumns
from foundrank.dist.score.kept_columns import common_types


def types_of(folder, *kinds, late=0):
    files = [str(folder / f"{at}.parquet") for at in range(len(kinds))]
    for file, kind in zip(files, kinds, strict=True):
        pq.write_table(pa.table({"a": pa.array([], kind)} if kind is not None else {"b": [1]}), file)
    first = len(files) - late
    return common_types(files[:first], files[first:], HiveColumns({}), {"a": "--keep"})


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        ((pa.int8(), pa.null(), pa.int64()), pa.int64()),
        ((pa.uint32(), pa.int64()), pa.int64()),
        ((pa.string(), pa.large_string()), pa.large_string()),
        ((pa.dictionary(pa.int32(), pa.string()), pa.string()), pa.string()),
        ((pa.float64(), pa.float32()), pa.float64()),
        ((pa.int8(), None), pa.int8()),
    ],
)
def test_the_wider_type_holds_both(tmp_path, kinds, common):
    assert types_of(tmp_path, *kinds) == {"a": common}


def test_one_type_stays_what_it_is(tmp_path):
    one = pa.list_(pa.int8())
    assert types_of(tmp_path, one, one) == {"a": one}


def test_a_column_that_no_file_has_is_none(tmp_path):
    assert types_of(tmp_path, None, None) == {}


@pytest.mark.parametrize(
    "kinds", [(pa.int64(), pa.uint64()), (pa.int64(), pa.string()), (pa.int64(), pa.float64()), (pa.int8(), pa.bool_())]
)
def test_types_that_do_not_mix_are_told(tmp_path, kinds):
    with pytest.raises(UserError, match=r"1\.parquet: column 'a': is .* --keep passes it on"):
        types_of(tmp_path, *kinds)


@pytest.mark.parametrize("kinds", [(pa.int64(), pa.int8()), (pa.large_string(), pa.string()), (pa.int8(), pa.null())])
def test_what_is_late_takes_the_type_that_is_there(tmp_path, kinds):
    assert types_of(tmp_path, *kinds, late=1) == {"a": kinds[0]}


@pytest.mark.parametrize("kinds", [(pa.int8(), pa.int64()), (pa.string(), pa.large_string()), (None, pa.int8())])
def test_what_is_late_and_wider_is_told(tmp_path, kinds):
    with pytest.raises(UserError, match=r"(?s)1\.parquet: column 'a': is .*the output that is there.*--overwrite"):
        types_of(tmp_path, *kinds, late=1)
