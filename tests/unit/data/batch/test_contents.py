"""Named contents in a batch: each has the vectors of its own store or column, or is missing."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.data.schema.layout import make_layout
from foundrank.model.kinds import KINDS
from tests.named_contents import BLURB, write_blurbs, write_contents
from tests.tiny_world import SCHEMAS, encoder_of, random_events, text_vectors, train_files

EVENTS = {"find": 40, "home": 30, "new": 10}
NEXT_ITEM = ("model.history.encoder=sasrec", "model.next_item.negatives=5")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_contents(folder, random_events(3, EVENTS))
    return folder


def sources(folder: Path, experiment) -> dict[str, dict[int, np.ndarray]]:
    rows = pq.read_table(folder / "items.parquet").to_pylist()
    clips = {row["item_id"]: np.array(row["image"], np.float32) for row in rows if row["image"] is not None}
    return {"text": text_vectors(rows), "blurb": write_blurbs(experiment), "clip": clips}


def test_each_content_has_its_own_vectors_and_the_history_their_means(tmp_path: Path):
    events = random_events(3, EVENTS)
    experiment = write_contents(tmp_path, events)
    assert experiment.model.aspects == ("id", "text", "blurb", "clip", "mood", "sparse")
    encoder, wanted = encoder_of(experiment), sources(tmp_path, experiment)
    layout = encoder.layout
    assert layout.contents_of == {
        "query": {"text": "text_query", "mood": "content_mood_query"},
        "item": {"text": "text_item", "blurb": "content_blurb_item", "clip": "content_clip_item"},
        "history": {"text": "text_history", "blurb": "content_blurb_history", "clip": "content_clip_history"},
    }
    embedded = ("text_item", "content_blurb_item", "text_history", "content_blurb_history")
    assert layout.encoder_of == dict.fromkeys(embedded, "minilm")
    table = pa.Table.from_pylist(
        [{k: row[k] for k in SCHEMAS["find"].names} for row in events["find"]], SCHEMAS["find"]
    )
    batch = encoder.assemble([encoder.encode("find", table, "here")], 64)
    seen = set()
    for at, row in enumerate(events["find"]):
        for content, of_item in wanted.items():
            past = [
                of_item[item] for item in [v for v in row["history"] or [] if v is not None][-3:] if item in of_item
            ]
            mean = np.mean(np.array(past, np.float64), 0) if past else None
            for key, vector in ((layout.contents_of["item"][content], of_item.get(row["item"])), (layout.contents_of["history"][content], mean)):  # fmt: skip
                assert bool(batch.vector_present[key][at]) == (vector is not None)
                given = np.zeros(batch.vectors[key].shape[1]) if vector is None else vector
                np.testing.assert_allclose(batch.vectors[key][at].float().numpy(), given, rtol=2e-3, atol=2e-3)
                seen.add((key, vector is not None))
        assert bool(batch.vector_present["content_mood_query"][at]) == (row["query_vector"] is not None)
    assert len(seen) == 12  # there and missing, of each


def test_the_order_of_the_file_means_nothing(world: Path):
    there = load_experiment(world, kinds=KINDS)
    turned = "entities.item.contents={clip: {vector: image, size: 3}, blurb: {text: '{brand} {tags}'}}"
    experiment = load_experiment(world, [turned], kinds=KINDS)
    assert experiment == there
    tables = dict.fromkeys(["id_user", "id_query", "id_item"], 5)
    sizes = {"item": 4, "item_blurb": 4}
    layout, other = make_layout(experiment, tables, sizes), make_layout(there, tables, sizes)
    assert list(layout.contents_of["item"]) == list(other.contents_of["item"]) == ["text", "blurb", "clip"]
    assert list(layout.vectors) == list(other.vectors)


def test_a_content_that_is_not_an_aspect_needs_neither_store_nor_place(tmp_path: Path):
    experiment = write_contents(tmp_path, random_events(3, EVENTS), "model.aspects=[id, clip]")
    for store in (tmp_path / "store").iterdir():
        store.rename(tmp_path / f"away_{store.name}")
    layout = encoder_of(experiment).layout
    assert layout.contents_of == {"item": {"clip": "content_clip_item"}, "history": {"clip": "content_clip_history"}}


def test_past_items_and_candidates_have_each_content_once(tmp_path: Path):
    events = random_events(3, EVENTS)
    experiment = write_contents(tmp_path, events, *NEXT_ITEM)
    encoder, wanted = encoder_of(experiment), sources(tmp_path, experiment)
    names = encoder.layout.contents_of["item"]
    row = dict.fromkeys(SCHEMAS["home"].names) | {"history": [1, 2, 1], "item": 2}
    rows = encoder.encode("home", pa.Table.from_pylist([row], schema=SCHEMAS["home"]), "here")
    items = encoder.items(trained=False)
    past = encoder.assemble([rows], 16, items).past
    assert past is not None
    assert set(past.vectors) == set(names.values())
    assert "history" not in encoder.layout.contents_of  # nothing looks at the means where each is looked at
    for content, of_item in wanted.items():
        key = names[content]
        assert len(past.vectors[key]) <= len(of_item)
        for item, at in zip([1, 2, 1, *items.keys.view(np.int64).tolist()], past.vector_at[key].tolist(), strict=True):
            assert (at >= 0) == (item in of_item)
            if at >= 0:
                np.testing.assert_array_equal(past.vectors[key][at].numpy(), of_item[item])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("entities.item.contents.id={text: '{title}'}", "`contents.id`: id is the name of another aspect"),
        ("entities.item.contents.sparse={vector: v, size: 2}", "sparse is the name of another aspect"),
        ("entities.item.contents.text={text: '{title}'}", "short for the content `text`, which is in `contents` too"),
        ("entities.query.contents.text={text: '{title}'}", "short for the content `text`"),
        ("entities.query.contents.words={text: '{title}'}", "give this entity a `catalog`"),
        ("entities.query.contents.clip={vector: v, size: 2, source: catalog}", "source: catalog, but this entity has no"),
        ("entities.item.contents.title={text: title}", "names no column"),
        ("entities.item.contents.title={words: '{title}'}", "'kind' is required and missing"),
        ("entities.item.contents.title={kind: txt}", "'txt' is not one of its kinds"),
        ("entities.item.contents.clip={vector: image}", "'size' is required and missing"),
        ("entities.item.contents.clip={vector: image, size: 3, prompt: x}", "kind: vector has no such setting"),
        ("entities.item.contents.two words={vector: image, size: 3}", "should match pattern"),
        ("model.aspects=[id, blrb]", "'blrb' is neither id nor sparse nor a content of an entity. Did you mean 'blurb'"),
    ],
)  # fmt: skip
def test_contents_that_cannot_be_are_refused(world: Path, change: str, words: str):
    with pytest.raises(UserError) as told:
        load_experiment(world, [change], kinds=KINDS)
    assert words in str(told.value)


def test_what_is_missing_is_told_with_the_command_that_makes_it(tmp_path: Path):
    experiment = write_contents(tmp_path, random_events(3, EVENTS))
    (tmp_path / "store" / BLURB.name / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"store/item_blurb: no content store here.*foundrank embed EXP"):
        count(experiment, train_files(experiment))


@pytest.mark.parametrize(
    ("entity", "content", "words"),
    [
        ("item", "{vector: image, size: 4}", r"items.parquet: column 'image'.* row 0"),
        ("query", "{vector: query_vector, size: 3}", r"column 'query_vector'.* row 0"),
        ("item", "{vector: nothing, size: 4}", "column 'nothing': is missing, and entities.item.contents.clip asks"),
        ("item", "{vector: title, size: 4}", r"column 'title': is string; entities.item.contents.clip takes"),
    ],
)
def test_vectors_of_another_size_and_columns_without_any_are_refused(world, entity, content, words):
    change = f"entities.{entity}.contents={{clip: {content}}}"
    experiment = load_experiment(world, [change, "model.aspects=[id, clip]"], kinds=KINDS)
    with pytest.raises(UserError, match=words):
        encoder_of(experiment)


def test_a_bad_vector_in_a_catalog_is_refused_or_missing(tmp_path: Path):
    write_contents(tmp_path, random_events(3, EVENTS), "model.aspects=[id, clip]")
    path = tmp_path / "items.parquet"
    items = pq.read_table(path)
    images = items["image"].to_pylist()
    bad = next(at for at, image in enumerate(images) if image is not None)
    images[bad] = [1.0, float("nan"), 2.0]
    at = items.column_names.index("image")
    pq.write_table(items.set_column(at, "image", pa.array(images, items["image"].type)), path)
    changes = ["model.aspects=[id, clip]", "entities.item.features={}"]
    with pytest.raises(UserError, match=rf"items.parquet: column 'image'.* row {bad}"):
        encoder_of(load_experiment(tmp_path, changes, kinds=KINDS))
    skipping = load_experiment(tmp_path, [*changes, "bad_data={policy: skip, max_share: 0.5}"], kinds=KINDS)
    clip = encoder_of(skipping).contents["content_clip_item"]
    missing = {key for key, image in zip(items["item_id"].to_pylist(), images, strict=True) if image is None}
    rows = clip.rows(np.arange(len(images), dtype=np.uint64))
    assert set(np.flatnonzero(rows < 0).tolist()) == missing | {items["item_id"][bad].as_py()}
