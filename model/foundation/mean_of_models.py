"""Several models of one layout that predict as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from .outputs import Outputs


class MeanOfModels(nn.Module):
    """For predicting only: the mean of what N models say before their links, as of deep ensembles (Lakshminarayanan et al., 2017).

    Of binary tasks that is the mean log-odds; of others the mean of what their heads give, whatever a task makes of it. A user
    scores an item by the mean of the models' products: its vector, and the items', are the models' side by side.
    """

    def __init__(self, models: Sequence[nn.Module]):
        """Args: the models, sharded or not; on every rank the same ones in the same order."""
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, batch: Batch) -> tuple[Tensor, Outputs]:
        """No loss, and what they say together; ``logits [B, O]``, ``user [B, N x D]``, ``candidates [M, N x D]``."""
        every = [model(batch)[1] for model in self.models]
        first = every[0]
        users = [outputs.user for outputs in every if outputs.user is not None]
        candidates = [outputs.candidates for outputs in every if outputs.candidates is not None]
        outputs = first._replace(
            logits=torch.stack([outputs.logits for outputs in every]).mean(0),
            gates={owner: torch.stack([outputs.gates[owner] for outputs in every]).mean(0) for owner in first.gates},
            user=torch.cat(users, 1) / len(every) if users else None,
            candidates=torch.cat(candidates, 1) if candidates else None,
        )
        return first.logits.new_zeros(()), outputs


def models_in(model: nn.Module) -> int:
    """How many models predict as one."""
    return len(model.models) if isinstance(model, MeanOfModels) else 1
