import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.config.kinds import experiment_type
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import check_store, expected_manifest, open_store, store_folder
from foundrank.data.contents.store_shards import Shard, write_shard
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS
from tests.content_store import write_store

ITEM = Stored("item", "text")
KEYS = pa.array(["a", "b", "c"])
ROWS = np.array([1, 0, 1])
VECTORS = np.array([[0.5, -1.0, 2.0], [0.25, 0.0, 3.0]], np.float32)


@pytest.fixture
def experiment(tmp_path):
    pq.write_table(pa.table({"asin": KEYS, "title": ["x", "y", "x"]}), tmp_path / "items.parquet")
    return experiment_type(KINDS).model_validate(
        {
            "name": "t",
            "entities": {
                "user": {"id": "user"},
                "item": {
                    "id": "item",
                    "catalog": {"path": str(tmp_path / "items.parquet"), "key": "asin"},
                    "text": "{title}",
                },
            },
            "domains": {
                "shop": {
                    "kind": "recommendation",
                    "events": {"train": "x.parquet"},
                    "tasks": {"click": {"label": "click"}},
                }
            },
            "text": {"store": str(tmp_path / "store")},
        }
    )


@pytest.mark.parametrize("keys", [KEYS, pa.array([7, -1, 2**62])])
def test_written_vectors_come_back(tmp_path, keys):
    write_store(tmp_path / "store" / "item", keys, ROWS, VECTORS, {"encoder": "e"})
    store = open_store(tmp_path / "store" / "item")
    assert store.vectors.dtype == torch.float16
    assert store.vectors.shape == (2, 3)
    assert store.size == 3
    assert torch.equal(store.vectors.float(), torch.from_numpy(VECTORS))
    assert store.keys.equals(keys)
    assert store.row_of_key.tolist() == ROWS.tolist()
    assert store.manifest["encoder"] == "e"
    assert store.manifest["rows"] == 2
    assert {path.suffix for path in (tmp_path / "store" / "item").iterdir()} == {".f16", ".b16", ".parquet", ".json"}


def test_vectors_are_mapped_not_read(tmp_path):
    write_store(tmp_path / "item", KEYS, ROWS, VECTORS, {})
    store = open_store(tmp_path / "item")
    assert "vectors.f16" in Path("/proc/self/maps").read_text()
    del store


def test_opening_warns_of_nothing(tmp_path, recwarn):
    write_store(tmp_path / "item", KEYS, ROWS, VECTORS, {})
    open_store(tmp_path / "item")
    assert not recwarn.list


def test_a_new_store_replaces_the_old_and_leaves_nothing_beside_it(tmp_path):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    write_store(folder, KEYS[:1], ROWS[1:2], VECTORS * 2, {})
    assert len(open_store(folder).keys) == 1
    assert open_store(folder).vectors[0, 0] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["item"]


def test_a_failed_write_keeps_the_old_store(tmp_path, monkeypatch):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"the disk is full.*Free some space"):
        write_store(folder, KEYS, ROWS, VECTORS * 2, {})
    assert open_store(folder).vectors[0, 0] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["item"]


def test_a_failed_swap_puts_the_old_store_back(tmp_path, monkeypatch):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    replace = os.replace

    def fails_to_place_the_new(source, target):
        if ".tmp-" in str(source) and target == folder:
            raise OSError("stale file handle")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_to_place_the_new)
    with pytest.raises(OSError, match="stale"):
        write_store(folder, KEYS, ROWS, VECTORS * 2, {})
    assert open_store(folder).vectors[0, 0] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["item"]


def test_vectors_too_large_for_float16_are_refused(tmp_path):
    with pytest.raises(UserError, match="vector 1 is not finite") as error:
        write_store(tmp_path / "item", KEYS, ROWS, np.array([[1.0], [1e6]], np.float32), {})
    assert "normalize: true" in str(error.value)
    assert not (tmp_path / "item").exists()


def test_an_absent_store_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"manifest.json is missing.*foundrank embed EXP"):
        open_store(tmp_path / "item")


@pytest.mark.parametrize("pattern", ["vectors.f16", "index-*.parquet", "manifest.json"])
def test_an_incomplete_store_is_refused(tmp_path, pattern):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    (path,) = folder.glob(pattern)
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} is missing.*foundrank embed EXP"):
        open_store(folder)


@pytest.mark.parametrize("pattern", ["vectors.f16", "index-*.parquet", "manifest.json"])
def test_a_truncated_file_is_refused(tmp_path, pattern):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    (path,) = folder.glob(pattern)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 5])
    with pytest.raises(UserError, match="foundrank embed EXP"):
        open_store(folder)


def test_a_store_of_another_version_is_told(tmp_path):
    write_store(tmp_path / "item", KEYS, ROWS, VECTORS, {"format": 1})
    with pytest.raises(UserError, match=r"format 1, this version reads 2.*--rebuild"):
        open_store(tmp_path / "item")


def test_a_reader_does_not_see_what_a_job_is_adding(tmp_path):
    folder = tmp_path / "item"
    write_store(folder, KEYS, ROWS, VECTORS, {})
    before = open_store(folder)
    (folder / "work").mkdir()
    write_shard(folder, Shard(2, 3), np.ones((3, 3), np.float16), np.zeros((3, 16), np.uint8), 0, {})
    after = open_store(folder)
    assert after.vectors.shape == (2, 3)
    assert torch.equal(after.vectors, before.vectors)


def test_a_store_made_for_this_experiment_passes(experiment):
    write_store(store_folder(experiment, ITEM), KEYS, ROWS, VECTORS, expected_manifest(experiment, ITEM))
    check_store(open_store(store_folder(experiment, ITEM)), experiment, ITEM)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("encoder", "someone/else"), ("pooling", "cls"), ("normalize", False), ("max_length", 7),
        ("template", "{asin}"), ("prompt", "query: "), ("dimension", 2), ("vectors", "random"),
    ],
)  # fmt: skip
def test_a_store_made_otherwise_is_refused(experiment, field, other):
    folder = store_folder(experiment, ITEM)
    manifest = expected_manifest(experiment, ITEM)
    manifest["asked"] = manifest["asked"] | {field: other}
    write_store(folder, KEYS, ROWS, VECTORS, manifest)
    with pytest.raises(UserError, match=f"another experiment .{field}: .* there, .* here.*foundrank embed EXP"):
        check_store(open_store(folder), experiment, ITEM)


def test_random_vectors_lie_beside_the_language_models(experiment):
    random = experiment.model_copy(update={"text": experiment.text.model_copy(update={"vectors": "random"})})
    assert store_folder(random, ITEM).name == "item-random"
    other_encoder = random.model_copy(update={"text": random.text.model_copy(update={"encoder": "someone/else"})})
    assert expected_manifest(random, ITEM) == expected_manifest(other_encoder, ITEM)


def test_a_changed_catalog_is_noticed_and_a_moved_one_is_not(experiment, tmp_path):
    folder = store_folder(experiment, ITEM)
    write_store(folder, KEYS, ROWS, VECTORS, expected_manifest(experiment, ITEM))
    store = open_store(folder)
    (tmp_path / "moved").mkdir()
    shutil.move(tmp_path / "items.parquet", tmp_path / "moved" / "items.parquet")
    raw = experiment.model_dump(mode="json", exclude_none=True)
    raw["entities"]["item"]["catalog"]["path"] = str(tmp_path / "moved" / "items.parquet")
    moved = experiment_type(KINDS).model_validate(raw)
    check_store(store, moved, ITEM)
    pq.write_table(pa.table({"asin": KEYS, "title": ["x", "y", "z"]}), tmp_path / "moved" / "items.parquet")
    with pytest.raises(UserError, match=r"has changed since.*foundrank embed EXP"):
        check_store(store, moved, ITEM)
