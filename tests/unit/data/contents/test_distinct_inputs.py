import errno
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.config.sections.entities import EntityConfig, Stored
from foundrank.data.content_kinds.content import Embedded
from foundrank.data.contents.catalog_inputs import CatalogInputs
from foundrank.data.contents.distinct_inputs import survey_inputs
from foundrank.data.errors import UserError


def entity(path, text="{title}") -> EntityConfig:
    return EntityConfig.model_validate({"id": "item", "catalog": {"path": str(path), "key": "id"}, "text": text})


def inputs_of(config) -> CatalogInputs:
    content = config.every_content()["text"]
    assert isinstance(content, Embedded)
    return CatalogInputs(Stored("item", "text"), config, content)


def write(path, ids, titles):
    titles = titles if isinstance(titles, pa.Array) else pa.array(titles, pa.string())
    pq.write_table(pa.table({"id": ids, "title": titles}), path, row_group_size=3)


def survey(config, folder, held=(), window=100):
    """What a survey finds: index, digests and positions of the rows, keys, unused, three sampled positions."""
    with survey_inputs(inputs_of(config), folder) as found:
        found.number_rows(held, window)
        index = {key: row for block in found.read_index() for key, row in zip(*block.to_pydict().values(), strict=True)}
        digests, positions = (np.concatenate(parts) for parts in zip(*found.read_rows(), strict=True))
        assert (len(index), len(digests)) == (found.keys, found.rows)
        return index, digests, positions.tolist(), found.unused, found.sample(3)[0].tolist()


@settings(max_examples=40)
@given(
    titles=st.lists(st.none() | st.sampled_from(["", " ", "a", "b", "ä", "a  b", "c" * 70]), min_size=1, max_size=25),
    files=st.integers(1, 3),
    window=st.integers(1, 5),
    new=st.lists(st.sampled_from(["a", "ä", "new", "newer"]), max_size=4),
)
def test_the_survey_finds_every_distinct_text_at_its_first_place(tmp_path_factory, titles, files, window, new):
    folder = tmp_path_factory.mktemp("catalog")
    parts = np.array_split(np.arange(len(titles)), files)
    for at, rows in enumerate(parts):
        write(folder / f"{at}.parquet", [f"k{row}" for row in rows], [titles[row] for row in rows])
    config = entity(folder / "*.parquet")
    texts = [" ".join(title.split()) if title else "" for title in titles]
    if not any(texts):
        with pytest.raises(UserError, match="is empty there"):
            survey(config, folder)
        return
    distinct = list(dict.fromkeys(text for text in texts if text))
    windows = [distinct[at : at + window] for at in range(0, len(distinct), window)]
    in_rows = [text for texts_ in windows for text in sorted(texts_, key=lambda text: -len(text.encode()))]
    index, digests, positions, unused, sample = survey(config, folder, window=window)
    assert index == {f"k{row}": in_rows.index(text) for row, text in enumerate(texts) if text}
    assert positions == [texts.index(text) for text in in_rows]
    assert len(np.unique(digests, axis=0)) == len(distinct)
    assert unused == 0
    assert sample == sorted(set(sample) & set(positions))
    assert len(sample) == min(3, len(distinct))

    wanted = np.sort(positions)[::2]
    assert list(inputs_of(config).read(wanted)) == [texts[row] for row in wanted]

    # A later catalog: rows there are stay, whatever has gone, and what is new comes after them.
    later = [text for text in titles[1:] if text and text.strip()] + new
    if not later:
        return
    write(folder / "0.parquet", [f"n{row}" for row in range(len(later))], later)
    for at in range(1, files):
        (folder / f"{at}.parquet").unlink()
    again, after, positions, unused, _ = survey(config, folder, held=np.array_split(digests, 2))
    texts = [" ".join(text.split()) for text in later]
    added = sorted(dict.fromkeys(text for text in texts if text not in in_rows), key=lambda text: -len(text.encode()))
    assert (after[: len(digests)] == digests).all()
    assert again == {f"n{row}": [*in_rows, *added].index(text) for row, text in enumerate(texts)}
    assert positions == [texts.index(text) if text in texts else -1 for text in [*in_rows, *added]]
    assert unused == positions.count(-1)


def test_a_full_disk_is_an_error_of_the_disk(tmp_path):
    write(tmp_path / "a.parquet", list(range(3)), ["x", "y", "z"])
    with ExitStack() as stack:
        found = stack.enter_context(survey_inputs(inputs_of(entity(tmp_path / "a.parquet")), tmp_path))
        found._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(OSError, match="in a temporary file") as told, stack:
            found.number_rows([], 8)
    assert told.value.errno == errno.ENOSPC


def test_a_key_twice_is_refused_whatever_its_texts(tmp_path):
    write(tmp_path / "a.parquet", [1, 2], ["x", None])
    write(tmp_path / "b.parquet", [3, 2], ["x", "y"])
    with pytest.raises(UserError, match=r"key 2 of column 'id' is in row 1 and in row 1 of b.parquet"):
        survey(entity(tmp_path / "*.parquet"), tmp_path)


def test_keys_of_two_types_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [1, 2], ["x", "z"])
    write(tmp_path / "b.parquet", ["1"], ["x"])
    with pytest.raises(UserError, match=r"b.parquet: column 'id': holds string ids, but .*a.parquet holds integer ids"):
        survey(entity(tmp_path / "*.parquet"), tmp_path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_bytes_that_are_no_utf8_are_told_with_their_row(tmp_path, kind):
    titles = pa.array([b"ok", b"fine", None, "schön".encode(), "schön".encode("latin-1"), b"z"])
    titles = titles if kind == pa.binary() else titles.cast(pa.large_binary() if kind == pa.large_string() else titles.type).view(kind)  # fmt: skip
    write(tmp_path / "a.parquet", list(range(6)), titles)
    with pytest.raises(UserError, match=r"a.parquet: column 'title' is not UTF-8 in row 4 .*Decode it"):
        survey(entity(tmp_path / "a.parquet"), tmp_path)
