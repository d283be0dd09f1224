"""Columns as other tools write them go the whole way: the same scores, and what is kept as it was."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.arrow_columns import array_of

from .commands import Here
from .test_bad_input import check_told
from .test_score import DOMAIN, events_of

OTHER_TYPES = {
    "user": pa.uint64(),
    "item": pa.string_view(),
    "history": pa.list_view(pa.string_view()),
    "history_domains": pa.large_list(pa.string_view()),
    "seller": pa.dictionary(pa.int32(), pa.string()),
    "price_band": pa.uint8(),
    "position": pa.uint16(),
}
KEPT = {
    "struct": pa.array([{"a": 1}]),
    "uuid": pa.array([b"0123456789abcdef"], pa.uuid()),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "lists": pa.array([[[1], None]]),
    "view": pa.array([["a"]], pa.list_view(pa.string_view())),
    "none": pa.nulls(1),
}


@pytest.fixture(scope="module")
def events(embedded: Path) -> pa.Table:
    """Test events of two domains, and columns to keep."""
    tables = [events_of(embedded, name).slice(0, 60) for name in (DOMAIN, "shop_search")]
    tables = [
        t.append_column("domain", pa.array([name] * 60))
        for t, name in zip(tables, (DOMAIN, "shop_search"), strict=True)
    ]
    rows = pa.concat_tables(tables, promote_options="default")
    for name, one in KEPT.items():
        rows = rows.append_column(name, pa.chunked_array([one] * len(rows), one.type))
    return rows


def test_columns_of_other_types_give_the_same_scores(run, events, tmp_path, here: Here):
    other = events.set_column(events.column_names.index("domain"), "domain", events["domain"].dictionary_encode())
    for name, kind in OTHER_TYPES.items():
        at = other.column_names.index(name)
        other = other.set_column(at, name, array_of(kind, other[name].to_pylist()))
    scored = []
    for name, table in (("plain", events), ("other", other)):
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=50)
        keep = ",".join([*KEPT, "price_band", "history"])
        assert here("score", run, tmp_path / f"{name}.parquet", tmp_path / name, "--keep", keep) == (0, ""), name
        scored.append(pa.concat_tables(pq.read_table(part) for part in sorted((tmp_path / name).glob("part-*"))))
    assert scored[0].to_pylist() == scored[1].to_pylist()
    for name in ("user", "item", "history", *KEPT):
        assert scored[1].schema.field(name).type == pq.read_schema(tmp_path / "other.parquet").field(name).type, name


@pytest.mark.parametrize("name", ["user", "seller", "query", "domain", "request"])
def test_a_column_that_is_there_twice_is_told(run, events, tmp_path, here: Here, name):
    """A feature, the domain, what is kept, and an id that is only passed on."""
    pq.write_table(
        pa.table([*events.columns, events[name]], names=[*events.column_names, name]), tmp_path / "in.parquet"
    )
    told = here("score", run, tmp_path / "in.parquet", tmp_path / "out", "--keep", "request")
    check_told(told, ["in.parquet", f"column '{name}'", "is there 2 times", "Keep one"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "kind"), [("domain", pa.list_(pa.string())), ("user", pa.float64()), ("history", pa.string())]
)
def test_a_type_that_does_not_serve_is_told(run, events, tmp_path, here: Here, name, kind):
    other = events.set_column(events.column_names.index(name), name, pa.nulls(len(events), kind))
    pq.write_table(other, tmp_path / "in.parquet")
    told = here("score", run, tmp_path / "in.parquet", tmp_path / "out")
    check_told(told, ["in.parquet", f"column '{name}'", "takes"])
