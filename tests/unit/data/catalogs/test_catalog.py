import os
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.catalogs.catalog import read_catalog, scan_catalog
from foundrank.data.catalogs.catalog_files import catalog_fingerprint, check_catalog
from foundrank.data.config.kinds import with_kinds
from foundrank.data.config.sections.entities import EntityConfig
from foundrank.data.content_kinds.text import Text
from foundrank.data.content_kinds.text_template import render_texts
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS

DATA = Path(os.environ.get("FOUNDRANK_DATA") or Path(__file__).parents[4] / "../shared/data")


def entity(path, key="id", **fields) -> EntityConfig:
    return with_kinds(EntityConfig, KINDS).model_validate(
        {"id": "item", "catalog": {"path": str(path), "key": key}, **fields}
    )


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_files_of_a_glob_come_together_in_order(tmp_path):
    write(tmp_path / "b.parquet", id=pa.array([3], pa.int16()), title=["z"], unused=[1.0])
    write(tmp_path / "a.parquet", title=["x", None], id=pa.array([1, 2], pa.uint32()))
    table = read_catalog("item", entity(tmp_path / "*.parquet"), ["title"])
    assert table.column_names == ["id", "title"]
    assert table["id"].type == pa.int64()
    assert table.to_pydict() == {"id": [1, 2, 3], "title": ["x", None, "z"]}


@pytest.mark.parametrize(
    "keys",
    [
        pa.array(["a", "b"]),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
    ],
)
def test_string_keys_become_string(tmp_path, keys):
    table = read_catalog("item", entity(write(tmp_path / "a.parquet", id=keys)), ["id"])
    assert table.column_names == ["id"]
    assert table["id"].type == pa.string()
    assert table["id"].to_pylist() == ["a", "b"]


def test_a_dictionary_of_integers_becomes_int64(tmp_path):
    keys = pa.array([5, 4], pa.int32()).dictionary_encode()
    assert read_catalog("item", entity(write(tmp_path / "a.parquet", id=keys)), [])["id"].type == pa.int64()


def test_a_hive_folder_name_is_no_column(tmp_path):
    (tmp_path / "id=7").mkdir()
    write(tmp_path / "id=7" / "a.parquet", id=["x"])
    assert read_catalog("item", entity(tmp_path / "*" / "*.parquet"), [])["id"].to_pylist() == ["x"]


def refused(message, *args):
    with pytest.raises(UserError) as error:
        read_catalog("item", *args)
    assert re.search(message, str(error.value)), str(error.value)


def test_user_mistakes_are_named(tmp_path):
    refused(r"entities\.item\.catalog\.path: no file matches", entity(tmp_path / "*.parquet"), [])
    path = write(tmp_path / "a.parquet", id=[1, 2], title=["x", "y"])
    refused(r"a\.parquet: column 'titel': is missing, and .* Did you mean 'title'\?", entity(path), ["titel"])
    refused(
        r"column 'key': is missing, and entities\.item\.catalog\.key asks for it. Known: id, title\.",
        entity(path, key="key"),
        [],
    )
    refused(
        "'id': is double; entities.item.catalog.key takes integers or strings",
        entity(write(tmp_path / "f.parquet", id=[1.0, 2.0])),
        [],
    )
    refused("'id' is null in row 2", entity(write(tmp_path / "n.parquet", id=[1, 2, None])), [])
    refused("has no row", entity(write(tmp_path / "e.parquet", id=pa.array([], pa.int64()))), [])
    write(tmp_path / "u1.parquet", id=pa.array([2**63], pa.uint64()))
    write(tmp_path / "u2.parquet", id=[-1])
    refused(r"u2\.parquet: key column 'id' does not fit uint64", entity(tmp_path / "u?.parquet"), [])
    (tmp_path / "t.parquet").write_text("id,title")
    refused(r"t\.parquet: not a readable Parquet file", entity(tmp_path / "t.parquet"), [])


def test_a_duplicate_key_is_named_with_its_rows(tmp_path):
    write(tmp_path / "a.parquet", id=["p", "q", "r", "q"])
    refused(r"a\.parquet: key 'q' of column 'id' is in rows 1 and 3", entity(tmp_path / "a.parquet"), [])
    write(tmp_path / "a.parquet", id=["p", "q", "r"])
    write(tmp_path / "b.parquet", id=["s", "r"])
    refused(r"a\.parquet: key 'r' .* in row 2 and in row 1 of b\.parquet", entity(tmp_path / "*.parquet"), [])


def test_files_with_contradicting_types_are_refused(tmp_path):
    write(tmp_path / "a.parquet", id=[1], title=["x"])
    write(tmp_path / "b.parquet", id=[2], title=[1])
    refused("types that do not mix", entity(tmp_path / "*.parquet"), ["title"])
    write(tmp_path / "b.parquet", id=["2"], title=["y"])
    refused(r"b\.parquet: column 'id': holds string ids, but .*a\.parquet", entity(tmp_path / "*.parquet"), ["title"])


def test_types_that_do_not_mix_are_told_by_the_footers_alone(tmp_path):
    write(tmp_path / "a.parquet", id=[1], new=[True])
    write(tmp_path / "b.parquet", id=[2], new=[0.5])
    config = entity(tmp_path / "*.parquet", features={"new": {"kind": "dense"}})
    with pytest.raises(UserError, match=r"types that do not mix \(.*new"):
        check_catalog("item", config)
    write(tmp_path / "a.parquet", id=[1], new=[1])
    assert [Path(file).name for file, _ in check_catalog("item", config)] == ["a.parquet", "b.parquet"]
    assert read_catalog("item", config, ["new"])["new"].to_pylist() == [1.0, 0.5]


def test_keys_without_a_sign_keep_their_value(tmp_path):
    write(tmp_path / "a.parquet", id=[1, 2**63 - 1])
    write(tmp_path / "b.parquet", id=pa.array([2**64 - 1], pa.uint64()))
    write(tmp_path / "c.parquet", id=pa.nulls(0))
    config, keys = entity(tmp_path / "*.parquet"), [1, 2**63 - 1, 2**64 - 1]
    assert read_catalog("item", config, [])["id"].to_pylist() == keys
    assert [key for piece in scan_catalog("item", config, []) for key in piece.table["id"].to_pylist()] == keys


def test_a_column_that_is_there_twice_is_told_where_it_is_read(tmp_path):
    table = pa.table([pa.array([1]), pa.array(["x"]), pa.array(["y"])], names=["id", "title", "title"])
    pq.write_table(table, tmp_path / "a.parquet")
    refused(r"a\.parquet: column 'title': is there 2 times\. Keep one", entity(tmp_path / "a.parquet"), ["title"])
    assert read_catalog("item", entity(tmp_path / "a.parquet"), [])["id"].to_pylist() == [1]


def test_the_fingerprint_follows_content_not_place(tmp_path):
    write(tmp_path / "a.parquet", id=[1], title=["x"])
    first = catalog_fingerprint("item", entity(tmp_path / "a.parquet"))
    (tmp_path / "there").mkdir()
    write(tmp_path / "there" / "a.parquet", id=[1], title=["x"])
    assert catalog_fingerprint("item", entity(tmp_path / "there" / "a.parquet")) == first
    write(tmp_path / "there" / "a.parquet", id=[1], title=["y"])
    assert catalog_fingerprint("item", entity(tmp_path / "there" / "a.parquet")) != first
    write(tmp_path / "a.parquet", id=[1], title=["x"])
    write(tmp_path / "b.parquet", id=[2], title=["x"])
    assert catalog_fingerprint("item", entity(tmp_path / "*.parquet")) != first
    (tmp_path / "b.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="not a Parquet file"):
        catalog_fingerprint("item", entity(tmp_path / "*.parquet"))


def test_every_kind_of_column_is_written_out():
    table = pa.table(
        {
            "title": pa.array(["  Blue\t\u00a0 mug ", None, " "], pa.large_string()),
            "price": [1.0, 2.5, None],
            "brand": pa.array(["Acme", None, None]).dictionary_encode(),
            "path": pa.array([["Home", None, "Kitchen"], [], None]),
            "sizes": pa.array([[1, 2], [None], None], pa.large_list(pa.int32())),
            "new": [True, None, None],
        }
    )
    texts = render_texts("{{{brand}}} {title}: {path} {sizes} {price} {new}", table)
    assert texts.type == pa.large_string()
    assert texts.to_pylist() == ["{Acme} Blue mug: Home, Kitchen 1, 2 1 true", "{} : 2.5", None]


def test_a_row_of_blanks_has_no_text_whatever_the_template_says():
    table = pa.table({"a": ["", None, "x"], "b": [" ", None, None]})
    assert render_texts("A: {a}, B: {b}", table).to_pylist() == [None, None, "A: x, B:"]


def test_slices_and_chunks_of_lists_keep_their_rows():
    lists = pa.chunked_array([pa.array([["a"], ["b", "c"], None])[1:], pa.array([["d", None]])])
    assert render_texts("{l}", pa.table({"l": lists})).to_pylist() == ["b, c", None, "d"]


def test_no_rows_no_texts():
    assert render_texts("{a}", pa.table({"a": pa.array([], pa.string())})).to_pylist() == []


@given(
    st.lists(
        st.tuples(st.none() | st.text(), st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.lists(st.text()))
    )
)
def test_rendering_equals_a_plain_loop(rows):
    def squeeze(text):
        spaced = "".join(" " if unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc") else c for c in text)
        return " ".join(spaced.split())

    texts, numbers, lists = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table(
        {
            "t": pa.array(texts, pa.string()),
            "n": pa.array(numbers, pa.int64()),
            "l": pa.array(lists, pa.list_(pa.string())),
        }
    )
    expected = []
    for text, number, items in rows:
        values = [squeeze(text or ""), "" if number is None else str(number), squeeze(", ".join(items or []))]
        expected.append(squeeze("{} n={} [{}]".format(*values)) if any(values) else None)
    assert render_texts("{t} n={n} [{l}]", table).to_pylist() == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{a", "cannot be read"),
        ("a}", "cannot be read"),
        ("{a!r}", "conversion or format"),
        ("{a:>3}", "conversion or format"),
        ("{}", "empty braces"),
        ("plain", "names no column"),
        ("{b}", "no column 'b'"),
        ("{s}", "takes strings, numbers, dates, booleans, or lists of them"),
    ],
)
def test_bad_templates_are_refused(template, message):
    with pytest.raises(UserError, match=message):
        render_texts(template, pa.table({"a": ["x"], "s": [{"x": 1}]}))


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets in {DATA}")
@pytest.mark.parametrize(
    ("path", "key", "template", "share"),
    [
        ("completejourney/products.parquet", "product_id", "{department} {product_category} {package_size}", 0.99),
        ("amazon_cellphones_search/items.parquet", "asin", "{brand} {categories}", 0.99),
        ("amazon_beauty/items.parquet", "item_id", "{title}", 0.99),
        ("movietweetings/movies.parquet", "movie_id", "{title} ({year}) {genres}", 1.0),
    ],
)
def test_real_catalogs_render(path, key, template, share):
    config = entity(DATA / path, key=key, text=template)
    content = Text(text=template)
    table = read_catalog("item", config, content.columns)
    texts = content.inputs(table)
    assert len(texts) == table.num_rows
    assert 1 - texts.null_count / len(texts) >= share
    assert pc.min(pc.utf8_length(texts)).as_py() > 0


def pieces(config, columns, **options):
    return [
        (Path(piece.file).name, piece.row, piece.position, piece.table.to_pydict())
        for piece in scan_catalog("item", config, columns, **options)
    ]


def test_a_catalog_is_scanned_in_pieces(tmp_path):
    write(tmp_path / "b.parquet", id=pa.array([3], pa.int16()), title=["z"], unused=[1.0])
    write(tmp_path / "a.parquet", title=["x", None, "y"], id=pa.array([1, 2, 9], pa.uint32()))
    assert pieces(entity(tmp_path / "*.parquet"), ["title"], batch_rows=2) == [
        ("a.parquet", 0, 0, {"id": [1, 2], "title": ["x", None]}),
        ("a.parquet", 2, 2, {"id": [9], "title": ["y"]}),
        ("b.parquet", 0, 3, {"id": [3], "title": ["z"]}),
    ]


@pytest.mark.parametrize("group", [2, 3, 100])
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_scan_passes_over_what_is_of_no_interest(tmp_path, group, batch):
    for file, ids in (("a", range(7)), ("b", range(7, 9)), ("c", range(9, 20))):
        table = pa.table({"id": list(ids), "title": [f"t{n}" for n in ids]})
        pq.write_table(table, tmp_path / f"{file}.parquet", row_group_size=group)
    for first in range(20):
        for last in range(first, 20):
            read = list(scan_catalog("item", entity(tmp_path / "*.parquet"), ["title"], (first, last), batch))
            ids = [n for piece in read for n in piece.table["id"].to_pylist()]
            assert ids == list(range(ids[0], ids[-1] + 1))
            assert ids[0] <= first
            assert ids[-1] >= last
            assert len(ids) <= last - first + 2 * batch - 1
            assert [piece.position for piece in read] == [piece.table["id"][0].as_py() for piece in read]


def test_a_scan_tells_the_same_mistakes(tmp_path):
    path = write(tmp_path / "a.parquet", id=pa.array([1, 2, None]), title=["x", "y", "z"])
    with pytest.raises(UserError, match=r"'id' is null in row 2"):
        pieces(entity(path), ["title"], batch_rows=2)
    with pytest.raises(UserError, match=r"'titel'.*Did you mean 'title'"):
        pieces(entity(path), ["titel"])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        pieces(entity(path), ["title"])
    with pytest.raises(UserError, match="no file matches"):
        pieces(entity(tmp_path / "absent.parquet"), ["title"])


def test_fingerprint_of_other_values_in_as_many_bytes(tmp_path):
    def fingerprint(values: list[int]) -> str:
        table = pa.table({"item_id": values})
        pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, write_statistics=False)
        return catalog_fingerprint("item", entity(tmp_path / "a.parquet"))

    assert fingerprint([1, 2]) != fingerprint([1, 3])
