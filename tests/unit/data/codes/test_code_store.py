"""The store of codes: what is written comes back, and what is damaged, changed or other is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.arrow.ids import id_keys
from foundrank.data.codes.code_store import (
    MANIFEST,
    check_codes,
    codes_folder,
    codes_identity,
    commit_codes,
    expected_codes,
    identities,
    open_coded,
    open_codes,
    read_codes_manifest,
)
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.content_kinds.codes import MOST_VALUES
from foundrank.data.errors import UserError
from tests.coded_world import RQ, catalog, opened, raw_experiment, write_world

OF = Stored("item", "codes")
KEYS = pa.array([7, -1, 2**62], pa.int64())
CODES = np.array([[0, 3, 1], [2, 1, MOST_VALUES - 1], [MOST_VALUES - 1, 0, 0]], np.uint16)
LEVELS = {"levels": [{"values": MOST_VALUES, "entropy": 1.0, "dead": 2}] * 3, "alike": 0, "largest": 1}
MADE = {"asked": {"method": "given"}, "catalog_fingerprint": "f", **LEVELS}


def commit(folder: Path, keys: pa.Array = KEYS, codes: np.ndarray = CODES, identity: str | None = None, **changes):
    folder.mkdir(exist_ok=True)
    return commit_codes(folder, keys, codes, b"book", MADE | changes, identity)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return opened(write_world(tmp_path_factory.mktemp("store"), users=4))


def committed(experiment: Experiment, codes: np.ndarray, identity: str | None = None) -> dict:
    """Codes of items 0, 1, ... as the experiment asks for them."""
    folder, levels = codes_folder(experiment, OF), {"levels": LEVELS["levels"], "alike": 0, "largest": 1}
    folder.mkdir(parents=True, exist_ok=True)
    keys = pa.array(np.arange(len(codes)), pa.int64())
    return commit_codes(folder, keys, codes, b"book", expected_codes(experiment, OF) | levels, identity)


@given(
    keys=st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20).map(lambda of: pa.array(of, pa.int64())),
        st.lists(st.text(max_size=5), unique=True, max_size=20).map(lambda of: pa.array(of, pa.string())),
    ),
    levels=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_written_codes_come_back_whatever_the_ids(tmp_path_factory, keys, levels, seed):
    folder = tmp_path_factory.mktemp("any") / "codes"
    codes = np.random.default_rng(seed).integers(0, MOST_VALUES, (len(keys), levels)).astype(np.uint16)
    commit(folder, keys, codes, levels=LEVELS["levels"][:1] * levels)
    found, manifest = open_codes(folder)
    assert found.shape == codes.shape
    assert manifest["rows"] == len(keys)
    table = found.mapped()
    rows = table.rows(id_keys(keys)[0])
    assert np.array_equal(table.vectors.numpy()[rows], codes.astype(np.int16))
    assert (table.rows(np.array([12345678987654321], np.uint64)) == -1).all()
    assert pq.read_table(found.index_file)["key"].to_pylist() == keys.to_pylist()


def test_the_largest_code_has_no_sign_in_a_tensor(tmp_path):
    commit(tmp_path / "codes")
    vectors = open_codes(tmp_path / "codes")[0].mapped().vectors
    assert vectors.dtype == torch.int16
    assert vectors.long().tolist() == CODES.tolist()


def test_nothing_but_the_newest_files_stays(tmp_path):
    folder = tmp_path / "codes"
    commit(folder)
    before = set(folder.iterdir())
    (folder / "work").mkdir()
    manifest = commit(folder, codes=CODES[:, ::-1])
    there = {path.name for path in folder.iterdir()}
    assert len(there) == len(before) + 1
    assert {"work", MANIFEST, f"codes-{manifest['codes_sha256'][:16]}.u16"} <= there


@pytest.mark.parametrize("what", ["codes", "index"])
@pytest.mark.parametrize("how", ["changed", "shorter", "gone"])
def test_a_damaged_file_is_told(tmp_path, what, how):
    folder = tmp_path / "codes"
    commit(folder)
    (file,) = folder.glob(f"{what}-*")
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[-1] ^= 1
        file.write_bytes(content if how == "changed" else content[:-1])
    with pytest.raises(UserError, match=rf"{what}-.*{'is missing' if how == 'gone' else 'is damaged'}.*foundrank tok"):
        open_codes(folder)


def test_files_that_do_not_belong_together_are_told(tmp_path):
    folder = tmp_path / "codes"
    commit(folder)
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": 4}))
    with pytest.raises(UserError, match="do not belong together"):
        open_codes(folder)


def test_no_store_another_format_and_a_broken_manifest_are_told(tmp_path):
    folder = tmp_path / "codes"
    folder.mkdir()
    assert read_codes_manifest(folder) is None
    for fails in (open_codes, codes_identity):
        with pytest.raises(UserError, match=r"no codes here.*foundrank tokenize"):
            fails(folder)
    commit(folder)
    path = folder / MANIFEST
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | {"format": 2}))
    with pytest.raises(UserError, match=r"format 2, this version reads 1.*--rebuild"):
        open_codes(folder)
    path.write_text(json.dumps(held | {"levels": []}))
    with pytest.raises(UserError, match="levels"):
        open_codes(folder)
    path.write_text("{")
    with pytest.raises(UserError, match=r"manifest.json"):
        open_codes(folder)


def test_codes_made_in_another_way_are_refused_by_the_setting(experiment):
    manifest = committed(experiment, CODES[:, :3])
    check_codes(manifest, experiment, OF)
    path = codes_folder(experiment, OF).parents[1] / "experiment.yaml"
    for change, words in (
        ("entities.item.contents.codes.codes.size=8", r"size: 4 there, 8 here"),
        ("entities.item.contents.codes.codes.unique=shared", r"unique: 'digit' there, 'shared' here"),
        ("entities.item.contents.codes.codes={method: fsq, levels: 2}", r"method: 'rq_kmeans' there, 'fsq' here"),
        ("entities.item.contents.codes.codes.seed=7", r"seed: 2026 there, 7 here"),
    ):
        with pytest.raises(UserError, match=rf"{words}.*--rebuild"):
            check_codes(manifest, opened(path, change), OF)
    check_codes(manifest, opened(path, "seed=7"), OF)  # trainings of any seed share them
    with pytest.raises(UserError, match=r"catalog .* has changed since its items were tokenized"):
        check_codes(manifest | {"catalog_fingerprint": "0"}, experiment, OF)


def test_a_catalog_that_has_changed_is_told(tmp_path):
    path = write_world(tmp_path, users=4)
    manifest = committed(opened(path), CODES)
    pq.write_table(catalog(range(41)), tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items.parquet has changed.*foundrank tokenize EXP"):
        check_codes(manifest, opened(path), OF)


def test_codes_remain_those_of_a_training_as_long_as_items_are_only_added(experiment):
    first = committed(experiment, CODES)
    trained_with = identities(experiment)
    assert trained_with == {"item_codes": first["identity"]}
    assert list(open_coded(experiment, trained_with)) == ["content_codes_item"]
    before = codes_identity(codes_folder(experiment, OF))["checksum"]
    more = committed(experiment, np.concatenate([CODES, CODES[:1]]), first["identity"])
    assert more["identity"] == first["identity"]
    assert identities(experiment) == trained_with
    assert codes_identity(codes_folder(experiment, OF))["checksum"] != before
    open_coded(experiment, trained_with)
    committed(experiment, CODES + np.uint16(1) * (CODES < 9))
    with pytest.raises(UserError, match=r"made anew since the run was trained.*Train again"):
        open_coded(experiment, trained_with)
    assert committed(experiment, CODES)["identity"] == first["identity"]  # the very same are no others


def test_codes_that_nothing_reads_are_not_opened(tmp_path):
    path = write_world(tmp_path, raw_experiment(RQ, next_item={}, aspects=["id", "look"]), users=4)
    assert open_coded(opened(path), {}) == {}
