"""The tokenize job in this process: every method, what it depends on and what it does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.codes.code_store import codes_folder, open_codes
from foundrank.data.config.sections.entities import Stored
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import ALONE
from foundrank.dist.tokenize.tokenize import tokenize
from tests.coded_world import ITEMS, RQ, catalog, opened, raw_experiment, write_world

OF = Stored("item", "codes")
METHODS: dict[str, dict[str, Any]] = {
    "rq_kmeans": RQ,
    "balanced": RQ | {"balanced": True},
    "sinkhorn": RQ | {"size": 8, "unique": "sinkhorn"},
    "smoothed": RQ | {"smoothing": 0.5},
    "rq_vae": {"method": "rq_vae", "levels": 2, "size": 4, "hidden": [8], "latent": 4, "epochs": 3, "batch_size": 16},
    "parallel": {"method": "parallel", "levels": 3, "size": 4, "iterations": 5},
    "fsq": {"method": "fsq", "levels": 2, "scalars": [3, 2]},
    "tree": {"method": "tree", "levels": 2, "size": 3, "dimension": 4},
    "columns": {"method": "columns", "columns": ["kind", "maker"], "size": 16},
    "random": {"method": "random", "levels": 2, "size": 4},
}


def codes_of(path: Path, *changes: str, rebuild: bool = False) -> dict[int, list[int]]:
    """Item -> its codes, after the job."""
    experiment = opened(path, *changes)
    tokenize(experiment, ALONE, rebuild)
    found, _ = open_codes(codes_folder(experiment, OF))
    keys = pq.read_table(found.index_file)["key"].to_pylist()
    return dict(zip(keys, found.mapped().vectors.tolist(), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_codes_do_not_depend_on_the_order_of_the_catalog(tmp_path, method):
    found = []
    for number in range(3):
        path = write_world(tmp_path / str(number), raw_experiment(METHODS[method]))
        order = np.random.default_rng(number).permutation(ITEMS) if number else np.arange(ITEMS)
        pq.write_table(catalog(range(ITEMS)).take(pa.array(order)), path.parent / "items.parquet", row_group_size=9)
        found.append(codes_of(path))
    assert found[0].keys() == set(range(ITEMS))
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert len({tuple(of) for of in found[0].values()}) > 3


@pytest.mark.parametrize("method", METHODS)
def test_new_items_get_codes_and_the_others_keep_theirs(tmp_path, method):
    path = write_world(tmp_path, raw_experiment(METHODS[method]))
    some = [item for item in range(ITEMS) if item % 4]
    pq.write_table(catalog(some), tmp_path / "items.parquet")
    before = codes_of(path)
    assert before.keys() == set(some)
    pq.write_table(catalog(range(ITEMS)), tmp_path / "items.parquet")
    after = codes_of(path)
    assert after.keys() == set(range(ITEMS))
    assert {item: after[item] for item in some} == before
    manifest = open_codes(codes_folder(opened(path), OF))[1]
    if METHODS[method].get("unique", "digit" if method != "fsq" and method != "parallel" else "shared") != "shared":
        assert manifest["alike"] == 0
        assert len({tuple(of) for of in after.values()}) == ITEMS


def test_items_that_are_gone_keep_their_codes(tmp_path):
    path = write_world(tmp_path)
    before = codes_of(path)
    pq.write_table(catalog(range(7, ITEMS + 2)), tmp_path / "items.parquet")
    after = codes_of(path)
    assert after.keys() == set(range(ITEMS + 2))
    assert {item: after[item] for item in before} == before


def test_items_without_a_vector_have_no_codes(tmp_path):
    path = write_world(tmp_path)
    rows = catalog(range(ITEMS)).to_pylist()
    rows[3]["look"] = None
    pq.write_table(pa.Table.from_pylist(rows, catalog([]).schema), tmp_path / "items.parquet")
    assert codes_of(path).keys() == set(range(ITEMS)) - {3}
    pq.write_table(catalog(range(ITEMS)), tmp_path / "items.parquet")
    assert codes_of(path).keys() == set(range(ITEMS))


def test_a_catalog_in_which_no_item_has_a_vector_is_told(tmp_path):
    path = write_world(tmp_path)
    rows = [row | {"look": None} for row in catalog(range(9)).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, catalog([]).schema), tmp_path / "items.parquet")
    with pytest.raises(UserError, match="no item"):
        codes_of(path)


def test_another_way_is_refused_until_codes_are_made_anew(tmp_path):
    path = write_world(tmp_path)
    first = codes_of(path)
    changes = ("entities.item.contents.codes.codes.size=8",)
    with pytest.raises(UserError, match=r"size: 4 there, 8 here.*--rebuild.*undo the change"):
        codes_of(path, *changes)
    assert codes_of(path) == first
    assert codes_of(path, *changes, rebuild=True) != first
    assert codes_of(path, rebuild=True) == first


def two_vectors(folder: Path, codes: dict[str, Any], seed: int = 0, scale: float = 1) -> Path:
    """A world whose items have other vectors, too."""
    raw = raw_experiment(codes)
    raw["entities"]["item"]["contents"]["words"] = {"vector": "words", "size": 2}
    path = write_world(folder, raw)
    words = scale * (np.arange(ITEMS)[:, None] % 2 + 0.1 * np.random.default_rng(seed).normal(size=(ITEMS, 2)))
    table = catalog(range(ITEMS)).append_column("words", pa.array(words.tolist(), pa.list_(pa.float32())))
    pq.write_table(table, path.parent / "items.parquet")
    return path


def test_vectors_side_by_side_weigh_alike_whatever_their_units(tmp_path):
    first, again = (codes_of(two_vectors(tmp_path / str(s), RQ, scale=s)) for s in (1, 1024))
    assert sum(first[item] == again[item] for item in first) >= ITEMS - 2
    assert len({first[item][0] for item in range(0, ITEMS, 2)} & {first[item][0] for item in range(1, ITEMS, 2)}) <= 1


@pytest.mark.parametrize("of", ["look", "words"])
def test_only_the_contents_that_are_named_are_looked_at(tmp_path, of):
    found = [codes_of(two_vectors(tmp_path / str(seed), RQ | {"of": [of]}, seed)) for seed in (1, 2)]
    assert (found[0] == found[1]) == (of == "look")


def test_there_must_be_codes_and_one_of_them_to_export(tmp_path):
    raw = raw_experiment(next_item={})
    raw["entities"]["item"]["contents"].pop("codes")
    with pytest.raises(UserError, match="has no codes, so there is nothing to tokenize"):
        codes_of(write_world(tmp_path / "none", raw, users=4))
    raw = raw_experiment()
    raw["entities"]["item"]["contents"]["more"] = {"codes": {"method": "random"}}
    with pytest.raises(UserError, match=r"--export: is one file, and there are several codes: codes, more"):
        tokenize(opened(write_world(tmp_path / "two", raw, users=4)), ALONE, export=str(tmp_path / "x.parquet"))
