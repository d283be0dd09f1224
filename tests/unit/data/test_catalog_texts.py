import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.catalog_texts import read_texts, survey_texts
from foundrank.data.errors import UserError
from foundrank.data.experiment import EntityConfig


def entity(path, text="{title}") -> EntityConfig:
    return EntityConfig.model_validate({"id": "item", "catalog": {"path": str(path), "key": "id"}, "text": text})


def write(path, ids, titles):
    titles = titles if isinstance(titles, pa.Array) else pa.array(titles, pa.string())
    pq.write_table(pa.table({"id": ids, "title": titles}), path, row_group_size=3)


@settings(max_examples=40, deadline=None)
@given(
    titles=st.lists(st.none() | st.sampled_from(["", " ", "a", "b", "ä", "a  b", "c" * 70]), min_size=1, max_size=25),
    files=st.integers(1, 3),
)
def test_the_survey_finds_every_distinct_text_at_its_first_place(tmp_path_factory, titles, files):
    folder = tmp_path_factory.mktemp("catalog")
    parts = np.array_split(np.arange(len(titles)), files)
    for at, rows in enumerate(parts):
        write(folder / f"{at}.parquet", [f"k{row}" for row in rows], [titles[row] for row in rows])
    config = entity(folder / "*.parquet")
    texts = [" ".join(title.split()) if title else "" for title in titles]
    if not any(texts):
        with pytest.raises(UserError, match="is empty there"):
            survey_texts("item", config)
        return
    found = survey_texts("item", config)
    distinct = list(dict.fromkeys(text for text in texts if text))
    assert found.keys.to_pylist() == [f"k{row}" for row, text in enumerate(texts) if text]
    assert [distinct[at] for at in found.text_of_key] == [text for text in texts if text]
    assert found.positions.tolist() == [texts.index(text) for text in distinct]
    assert found.lengths.tolist() == [len(text.encode()) for text in distinct]
    assert len(np.unique(found.digests, axis=0)) == len(distinct)

    wanted = np.sort(found.positions)[::2]
    read = [(at, part) for at, part in read_texts("item", config, wanted)]
    assert [text for _, part in read for text in part] == [texts[row] for row in wanted]
    assert [at.start for at, _ in read] == [0, *[at.stop for at, _ in read[:-1]]]


def test_a_key_twice_is_refused_whatever_its_texts(tmp_path):
    write(tmp_path / "a.parquet", [1, 2], ["x", None])
    write(tmp_path / "b.parquet", [3, 2], ["x", "y"])
    with pytest.raises(UserError, match=r"key 2 of column 'id' is in row 1 and in row 1 of b.parquet"):
        survey_texts("item", entity(tmp_path / "*.parquet"))


def test_keys_of_two_types_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [1, 2], ["x", "z"])
    write(tmp_path / "b.parquet", ["1"], ["x"])
    with pytest.raises(UserError, match=r"b.parquet: key column 'id' is string here and int64 in the files before"):
        survey_texts("item", entity(tmp_path / "*.parquet"))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_bytes_that_are_no_utf8_are_told_with_their_row(tmp_path, kind):
    titles = pa.array([b"ok", b"fine", None, "schön".encode(), "schön".encode("latin-1"), b"z"])
    titles = titles if kind == pa.binary() else titles.cast(pa.large_binary() if kind == pa.large_string() else titles.type).view(kind)  # fmt: skip
    write(tmp_path / "a.parquet", list(range(6)), titles)
    with pytest.raises(UserError, match=r"a.parquet: column 'title' is not UTF-8 in row 4 .*Decode it"):
        survey_texts("item", entity(tmp_path / "a.parquet"))
