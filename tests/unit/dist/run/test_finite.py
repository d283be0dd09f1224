import pytest
import torch

from foundrank.dist.run.finite import LARGEST_VECTOR, not_finite, usable


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_one_value_that_is_no_number_is_found_by_name(value, kind):
    tensors = {
        "model": {"a": torch.full((3, 4), 3e38).to(kind), "rows": torch.arange(5), "none": torch.zeros(0, 4)},
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(7, dtype=kind), "step": torch.tensor(1.0)}},
            "groups": [{"lr": 1}],
        },
    }
    assert not_finite({}) is None
    if kind != torch.bfloat16:  # 3e38 is finite in both others
        assert not_finite(tensors) is None
    tensors["model"]["a"] = torch.zeros(3, 4, dtype=kind)
    tensors["optimizer"]["state"][0]["exp_avg"][6] = value
    assert not_finite(tensors) == "optimizer.state.0.exp_avg"


def test_products_of_usable_vectors_are_numbers():
    vectors = torch.full((4, 4096), LARGEST_VECTOR)
    vectors[1, 3], vectors[2, 0], vectors[3, 7] = float("nan"), -2 * LARGEST_VECTOR, float("inf")
    assert usable(vectors).tolist() == [True, False, False, False]
    assert torch.isfinite(vectors[0] @ vectors[0])
