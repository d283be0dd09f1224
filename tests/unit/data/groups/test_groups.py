"""Groups: from columns of lists to the tensors of a batch."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from foundrank.data.errors import UserError
from foundrank.data.groups.groups import groups_of, read_groups


def table(candidates: list, reference: list, rewards: list) -> pa.Table:
    return pa.table(
        {
            "candidates": pa.array(candidates, pa.list_(pa.int64())),
            "reference": pa.array(reference, pa.list_(pa.float32())),
            "reward": pa.array(rewards, pa.list_(pa.float64())),
        }
    )


def rows_of(keys: np.ndarray) -> np.ndarray:
    """The same number for the same key: its place among all."""
    return np.unique(keys, return_inverse=True)[1] + 1


def test_rows_are_padded_and_a_candidate_without_a_reward_is_none():
    read = read_groups(
        table([[7, 8, 9], [], [8]], [[-1, -2, -3], [], [-4]], [[1, None, 0], [], [2]]), "f", rows_of, None
    )
    found = groups_of([{}, read], [2, 3], None)
    assert found is not None
    assert found.rows.shape == (5, 3)
    assert found.there.tolist() == [[False] * 3] * 2 + [[True, False, True], [False] * 3, [True, False, False]]
    assert found.rewards[2].tolist() == [1, 0, 0]
    assert found.reference[4].tolist() == [-4, 0, 0]
    assert found.rows[2, 1] == found.rows[4, 0] > 0  # the same item
    assert found.codes is None
    assert groups_of([{}, {}], [2, 3], None) is None


def test_codes_are_looked_up_and_an_item_without_any_is_none():
    def codes_of(keys: np.ndarray) -> np.ndarray:
        return np.where(rows_of(keys) == 2, -1, rows_of(keys) - 1)

    read = read_groups(table([[7, 8, 9]], [[-1, -2, -3]], [[1, 2, 3]]), "f", rows_of, codes_of)
    codes = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.int16)
    found = groups_of([read], [1], codes)
    assert found is not None
    assert found.codes is not None
    [there], [of_row] = found.there.tolist(), found.codes.tolist()
    assert there.count(True) == 2
    assert all(code in codes.tolist() for code, is_there in zip(of_row, there, strict=True) if is_there)


def test_as_many_numbers_as_candidates():
    uneven = table([[7], [8, 9]], [[-1], [-2, -3]], [[1], [2]])
    with pytest.raises(UserError, match=r"part\.parquet: column 'reward', row 1: has 1 values, and 2 candidates"):
        read_groups(uneven, "part.parquet", rows_of, None)
