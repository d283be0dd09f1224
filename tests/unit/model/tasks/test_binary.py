import math

import pytest
import torch
from pydantic import ValidationError

from foundrank.data.config.sections.task import Scale
from foundrank.model.tasks.binary import Binary


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_cross_entropy_times_a_power_of_what_is_missing(gamma):
    logits, labels = torch.tensor([[2.0], [-1.0], [0.3]]), torch.tensor([[1.0], [1.0], [0.0]])
    found = Binary(label="y", loss="focal", focal_gamma=gamma).losses(logits, labels, Scale())
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, -0.3)]  # of the label there is
    assert found[:, 0].tolist() == pytest.approx([-math.log(q) * (1 - q) ** gamma for q in p])


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize("value", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss, value):
    logits = torch.full((2, 1), value, requires_grad=True)
    found = Binary(label="y", loss=loss, **({"focal_gamma": 0.5} if loss == "focal" else {})).losses(
        logits, torch.tensor([[0.0], [1.0]]), Scale()
    )
    found.sum().backward()
    assert found.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0] >= 0 >= logits.grad[1] or value == 0.0


@pytest.mark.parametrize("other", [{"negative_rate": 0.5}, {"given": "click"}])
def test_what_needs_probabilities_is_refused_with_focal(other):
    with pytest.raises(ValidationError, match="no probabilities to work with; use bce"):
        Binary(label="y", loss="focal", **other)
