"""What items are tokenized from."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.codes.code_store import codes_folder, open_codes
from foundrank.data.config.sections.entities import Stored
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import ALONE
from foundrank.dist.tokenize.inputs import Sources, sources
from foundrank.dist.tokenize.tokenize import tokenize
from tests.coded_world import ITEMS, RQ, catalog, opened, raw_experiment, write_world

OF = Stored("item", "codes")


def sources_of(path: Path) -> Sources:
    experiment = opened(path)
    return sources(experiment, OF, experiment.entities.item.codes()["codes"], ALONE)


def vectors_of(every: Sources) -> torch.Tensor:
    return every.items(every.standardised(ALONE), ALONE, lambda done: None).at(np.arange(len(every.keys)))


def world(folder: Path, codes: dict[str, Any]) -> tuple[Path, torch.Tensor]:
    """Items in an order of their own, of which one has no vector; and the vectors by item."""
    path = write_world(folder, raw_experiment(codes))
    rows = catalog(range(ITEMS)).to_pylist()
    look = torch.tensor([row["look"] for row in rows])
    rows[3]["look"] = None
    order = np.random.default_rng(0).permutation(ITEMS)
    table = pa.Table.from_pylist([rows[at] for at in order], catalog([]).schema)
    pq.write_table(table, folder / "items.parquet")
    return path, look


def standardised(look: torch.Tensor) -> torch.Tensor:
    there = torch.arange(ITEMS) != 3
    x = look - look[there].mean(0)
    x = x / x[there].square().sum(1).mean().sqrt()
    return x * there[:, None]


def test_vectors_are_standardised_and_of_nothing_there_is_nothing(tmp_path):
    path, look = world(tmp_path, RQ)
    every = sources_of(path)
    assert every.keys.tolist() == list(range(ITEMS))  # by key, whatever the catalog's order
    assert every.with_something.tolist() == [item != 3 for item in range(ITEMS)]
    torch.testing.assert_close(vectors_of(every), standardised(look), rtol=1e-4, atol=1e-5)


def test_vectors_for_any_catalog_have_length_one(tmp_path):
    path, look = world(tmp_path, {"method": "fsq", "levels": 2, "scalars": [3, 2]})
    wanted = torch.nn.functional.normalize(look, dim=1)
    wanted[3] = 0
    torch.testing.assert_close(vectors_of(sources_of(path)), wanted, rtol=1e-4, atol=1e-5)


def test_smoothing_takes_a_share_of_the_mean_of_those_that_are_together(tmp_path):
    path, look = world(tmp_path, RQ | {"smoothing": 0.4})
    every, x = sources_of(path), standardised(look)
    assert every.graph is not None
    found = vectors_of(every)
    for item in range(ITEMS):
        _, others, weights = every.graph.of(np.array([item]))
        weights = weights * every.with_something[others]  # one without a vector is no zero vector
        mean = (x[others] * torch.from_numpy(weights)[:, None]).sum(0) / max(float(weights.sum()), 1e-9)
        wanted = 0.6 * x[item] + 0.4 * mean if weights.sum() else x[item]
        torch.testing.assert_close(found[item], wanted, rtol=1e-3, atol=1e-4)


def test_given_codes_that_have_changed_since_they_were_taken_in_are_told(tmp_path):
    table = {"key": list(range(ITEMS)), "codes": [[item % 4, item] for item in range(ITEMS)]}
    path = write_world(
        tmp_path, raw_experiment({"method": "given", "path": "codes.parquet", "sizes_of_levels": [4, 64]}), users=4
    )
    pq.write_table(pa.table(table), tmp_path / "codes.parquet")
    tokenize(opened(path), ALONE)
    found, _ = open_codes(codes_folder(opened(path), OF))
    assert found.mapped().vectors.tolist() == table["codes"]
    table["codes"][5] = [0, 63]
    pq.write_table(pa.table(table), tmp_path / "codes.parquet")
    with pytest.raises(UserError, match=r"codes.parquet: has other codes for 1 items.*--rebuild"):
        tokenize(opened(path), ALONE)
    tokenize(opened(path), ALONE, rebuild=True)
    found, _ = open_codes(codes_folder(opened(path), OF))
    assert found.mapped().vectors.tolist() == table["codes"]
