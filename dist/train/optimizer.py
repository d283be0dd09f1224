"""One optimizer for the pipeline: one of the kinds on the dense part, the fused one inside the tables' backward."""

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


class Optimizer:
    """What TorchRec's pipeline calls around each backward.

    Attributes:
        names: of the dense part's parameters that learn, in the order of the optimizer's state.
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
        of_levels = {level: [name for name in learned if levels[name] == level] for level in rates}
        self.names = [name for names in of_levels.values() for name in names]
        self._optimizer: torch.optim.Optimizer = training.optimizer.build(
            [
                {"params": [learned[name] for name in names], "rate": rates[level], "lr": training.learning_rate}
                for level, names in of_levels.items()
                if names
            ]
        )
        self._partly = PartlyFrozen({f"dense.{name}": p for name, p in parameters.items()}, learning)
        self._table_rate = rates["L0"]
        self._fused = sharded.fused_optimizer
        self.gradient_norm = torch.zeros(())
        self.share = 1.0

    def set_progress(self, progress: float) -> None:
        """Sets both learning rates for the coming step."""
        self.share = self._training.schedule.share(progress)
        for group in self._optimizer.param_groups:
            group["lr"] = self._training.learning_rate * self.share * group["rate"]
        for group in self._fused.param_groups:
            group["lr"] = self._training.sparse_learning_rate * self.share * self._table_rate
        self._fused.step()  # hands the rate to FBGEMM; the update itself happens inside backward

    def zero_grad(self) -> None:
        """Forgets the dense gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clips and applies the dense gradients."""
        self._mark("backward")
        with self._partly.held():
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(self._dense, self._training.gradient_clip)
            self._optimizer.step()
        self._mark("optimizer")

    def dense_state(self) -> dict[str, Any]:
        """The optimizer's state, for the checkpoint."""
        return self._optimizer.state_dict()

    def load_dense_state(self, state: dict[str, Any]) -> None:
        """Restores what `dense_state` gave."""
        self._optimizer.load_state_dict(state)
