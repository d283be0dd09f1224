"""Several models predict what their outputs are on the mean."""

import pytest
import torch
from torch import nn

from foundrank.model.foundation.mean_of_models import MeanOfModels, models_in
from foundrank.model.foundation.outputs import Outputs


class Says(nn.Module):
    """A model that says random things."""

    def __init__(self, seed: int, finds: bool):
        super().__init__()
        self.random, self.finds = torch.Generator().manual_seed(seed), finds

    def forward(self, batch):
        def some(*shape):
            return torch.randn(*shape, generator=self.random)

        found = {"user": some(3, 4), "candidates": some(5, 4)} if self.finds else {}
        zero = torch.zeros(())
        self.said = Outputs(some(3, 2), zero, zero, zero, {"item": some(3, 2)}, zero, **found)
        return zero, self.said


@pytest.mark.parametrize("finds", [True, False])
def test_they_say_the_mean(finds):
    models = [Says(seed, finds) for seed in range(3)]
    both = MeanOfModels(models).eval()
    assert not any(model.training for model in models)
    assert (models_in(both), models_in(models[0])) == (3, 1)
    _, said = both(None)
    torch.testing.assert_close(said.logits, sum(model.said.logits for model in models) / 3)
    torch.testing.assert_close(said.gates["item"], sum(model.said.gates["item"] for model in models) / 3)
    if finds:  # the product is what scores an item
        wanted = sum(model.said.user @ model.said.candidates.T for model in models) / 3
        torch.testing.assert_close(said.user @ said.candidates.T, wanted)
    else:
        assert said.user is said.candidates is None
