"""A column that is passed on has one type in all parts."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import list_events
from foundrank.dist.score.kept_columns import common_types


def types_of(folder, *kinds):
    for at, kind in enumerate(kinds):
        pq.write_table(pa.table({"a": pa.array([], kind)}), folder / f"{at}.parquet")
    return common_types(list_events(f"{folder}/*.parquet", "the input", BadDataConfig()), {"a": "--keep"})


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        ((pa.int8(), pa.null(), pa.int64()), pa.int64()),
        ((pa.uint32(), pa.int64()), pa.int64()),
        ((pa.string(), pa.large_string()), pa.large_string()),
        ((pa.dictionary(pa.int32(), pa.string()), pa.string()), pa.string()),
        ((pa.float64(), pa.float32()), pa.float64()),
    ],
)
def test_the_wider_type_holds_both(tmp_path, kinds, common):
    assert types_of(tmp_path, *kinds) == {"a": common}


def test_one_type_stays_what_it_is(tmp_path):
    assert types_of(tmp_path, pa.list_(pa.int8()), pa.list_(pa.int8())) == {}


@pytest.mark.parametrize(
    "kinds", [(pa.int64(), pa.uint64()), (pa.int64(), pa.string()), (pa.int64(), pa.float64()), (pa.int8(), pa.bool_())]
)
def test_types_that_do_not_mix_are_told(tmp_path, kinds):
    with pytest.raises(UserError, match=r"1\.parquet: column 'a': is .* --keep passes it on"):
        types_of(tmp_path, *kinds)
