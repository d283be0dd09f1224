"""One optimizer for the pipeline: AdamW on the dense part, the fused one inside the tables' backward."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from ...data.config.sections.training import TrainingConfig
from ...model.foundation.foundation import dense_part
from ...model.layers.axes import levels_of
from ..fine_tuning.freezing import PartlyFrozen


def schedule(progress: float, training: TrainingConfig) -> float:
    """Share of the peak learning rate when ``progress`` (0 to 1) of the training is done: linear rise, cosine fall."""
    if progress < training.warmup_share:
        return max(progress, 1e-3 * training.warmup_share) / training.warmup_share
    rest = (progress - training.warmup_share) / max(1 - training.warmup_share, 1e-9)
    return training.final_lr_share + (1 - training.final_lr_share) * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


class Optimizer:
    """What TorchRec's pipeline calls around each backward.

    Attributes:
        gradient_norm: scalar tensor, L2 norm of the dense gradient at the last step, before clipping.
    """

    def __init__(
        self,
        sharded: DistributedModelParallel,
        training: TrainingConfig,
        mark: Callable[[str], None] = lambda part: None,
        learning: Mapping[str, Tensor] = MappingProxyType({}),
    ):
        """Args: the model, how it is trained, what is told that a part of a step is over (`StepTimes.mark`), and what learns
        of parameters in frozen levels (`freezing.learning_parts`).
        """
        self._training, self._mark = training, mark
        rates = training.level_rates.model_dump()
        # Asked of the part, not by absence from the fused optimizer, which knows this rank's tables only.
        part = dense_part(sharded)
        parameters, levels = dict(part.named_parameters()), levels_of(part)
        learned = {name: p for name, p in parameters.items() if p.requires_grad}
        self._dense = [*learned.values()]
        groups = {level: [p for name, p in learned.items() if levels[name] == level] for level in rates}
        self._adamw = torch.optim.AdamW(
            [{"params": of_level, "rate": rates[level]} for level, of_level in groups.items() if of_level],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self._partly = PartlyFrozen({f"dense.{name}": p for name, p in parameters.items()}, learning)
        self._table_rate = rates["L0"]
        self._fused = sharded.fused_optimizer
        self.gradient_norm = torch.zeros(())
        self.share = 1.0

    def set_progress(self, progress: float) -> None:
        """Sets both learning rates for the coming step."""
        self.share = schedule(progress, self._training)
        for group in self._adamw.param_groups:
            group["lr"] = self._training.learning_rate * self.share * group["rate"]
        for group in self._fused.param_groups:
            group["lr"] = self._training.sparse_learning_rate * self.share * self._table_rate
        self._fused.step()  # hands the rate to FBGEMM; the update itself happens inside backward

    def zero_grad(self) -> None:
        """Forgets the dense gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clips and applies the dense gradients."""
        self._mark("backward")
        with self._partly.held():
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self._dense, self._training.gradient_clip)
            self._adamw.step()
        self._mark("optimizer")

    def dense_state(self) -> dict[str, Any]:
        """AdamW's state, for the checkpoint."""
        return self._adamw.state_dict()

    def load_dense_state(self, state: dict[str, Any]) -> None:
        """Restores what `dense_state` gave."""
        self._adamw.load_state_dict(state)
