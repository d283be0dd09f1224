"""Tables of rewards: what they must hold, and what they say of pairs."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.data.schema.layout import id_key
from foundrank.dist.align.rewards import OfPairs, OfTable, check_table, is_own
from tests.coded_world import opened, write_world

TYPES = {id_key("user"): ("integer", "the run"), id_key("item"): ("integer", "the run")}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return opened(write_world(tmp_path_factory.mktemp("rewards")))


def table(path: Path, **columns: list) -> str:
    every = {"user": [1, 1, None, 2], "item": [7, 8, 0, None], "reward": [0.5, None, 3.0, 4.0]} | columns
    pq.write_table(pa.table(every), path / "rewards.parquet")
    return str(path / "rewards.parquet")


def test_pairs_have_the_rewards_of_the_table_and_else_none(experiment, tmp_path):
    path = table(tmp_path)
    check_table(path, experiment, dict(TYPES))
    lists = pa.array([[7, 8, 9], [0], [7]], pa.list_(pa.int64()))
    rows = pa.table({"user": [1, None, 2], "item": pa.array([0, None, 7]), "candidates": lists})
    found = OfPairs(experiment, OfTable(path, experiment)).of(rows, "rows")
    np.testing.assert_array_equal(found, [0.5, np.nan, np.nan, np.nan, np.nan])
    assert OfPairs(experiment, is_own).of(rows, "rows").tolist() == [0, 0, 0, 0, 1]  # no item is none, not the item 0


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"user": ["1", "1", "2", "3"]}, "'user'.*string ids, but the run holds integer ids"),
        ({"item": ["1", "1", "2", "3"]}, "'item'.*string ids, but the run holds integer ids"),
        ({"reward": ["a", "b", "c", "d"]}, "'reward'.*--reward takes"),
        ({"user": [1, 1, 2, 1], "item": [7, 8, 7, 8]}, "has 2 rewards of user 1 and item 8"),
        ({"user": [None] * 4}, "has no reward of a user and an item|'user'.*is null"),
    ],
)
def test_a_table_that_says_nothing_of_pairs_is_refused(experiment, tmp_path, columns, told):
    with pytest.raises(UserError, match=told):
        check_table(table(tmp_path, **columns), experiment, dict(TYPES))
