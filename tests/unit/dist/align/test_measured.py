"""What lists are worth, and rewards that follow from keys alone."""

import numpy as np
import pyarrow as pa
import pytest

from foundrank.data.errors import UserError
from foundrank.dist.align.measured import change_told, measures
from foundrank.dist.align.reward_spec import reward_spec
from foundrank.dist.align.rewards import is_own, noise


def test_lists_are_measured_by_their_rewards_and_by_the_row_s_own_item():
    table = pa.table(
        {
            "item": [3, 4, 5],
            "candidates": pa.array([[1, 3, 2], [1, 2], []], pa.list_(pa.int64())),
            "reward": pa.array([[0.5, None, 1.0], [1.0, 2.0], []], pa.list_(pa.float32())),
        }
    )
    found = measures(table, "item")
    assert found["reward"][:2].tolist() == [0.75, 1.5]
    assert np.isnan(found["reward"][2])
    assert found["hr@10"].tolist() == [1, 0, 0]
    assert found["ndcg@10"].tolist() == pytest.approx([1 / np.log2(3), 0, 0])


def test_of_one_user_there_is_no_interval():
    assert change_told({"difference": 0.25, "low": None, "high": None}) == "+0.2500 –"
    assert change_told({"difference": -0.25, "low": -0.5, "high": 0.0}) == "-0.2500 [-0.5000, +0.0000]"


def test_noise_is_even_and_says_nothing_of_another_row():
    user, candidate = np.repeat(np.arange(300, dtype=np.uint64), 50), np.tile(np.arange(50, dtype=np.uint64), 300)
    own = np.repeat(np.arange(300, dtype=np.uint64) % 50, 50)
    found = noise(user, candidate, own)
    assert found.mean() == pytest.approx(0.5, abs=0.01)
    assert found.std() == pytest.approx(12**-0.5, abs=0.01)
    assert abs(np.corrcoef(found, noise(user, candidate, own + np.uint64(1)))[0, 1]) < 0.03
    assert np.array_equal(found, noise(user, candidate, own))
    assert is_own(user, candidate, own).sum() == 300


def test_a_reward_is_read_as_it_is_asked_for():
    spec = reward_spec("runs/ranker", "click=1, buy=3")
    assert (spec.run, dict(spec.weights)) == ("runs/ranker", {"click": 1.0, "buy": 3.0})
    assert reward_spec("a.parquet", "").table == "a.parquet"
    assert reward_spec("hits", "").run is reward_spec("noise", "").run is None
    for weights in ("click", "click=much", "=1", "click=inf"):
        with pytest.raises(UserError, match="TASK=NUMBER"):
            reward_spec("runs/ranker", weights)
    with pytest.raises(UserError, match="is of a run's tasks"):
        reward_spec("noise", "click=1")
