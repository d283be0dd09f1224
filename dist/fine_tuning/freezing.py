"""Freezing in a fine-tuning: what was pretrained in a frozen level stays, what is new there learns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from ...data.config.experiment import Experiment
from ...data.schema.layout import Layout
from ...model.foundation.transfer import new_positions, shapes_only
from ...model.layers.axes import axes_of, levels_of
from ..run.moments import rows_of_moment
from .changed_rows import ChangedRows
from .pretrained import Pretrained

# Row-wise Adagrad divides a row's gradients by the root of this: what is left of them is below the last digit of any weight.
STAYS = 1e30


def learning_parts(base: Pretrained, layout: Layout, experiment: Experiment) -> dict[str, Tensor]:
    """What learns of the dense parameters of frozen levels.

    Args:
        base: the pretrained run.
        layout: of the model to fine-tune.
        experiment: of the model to fine-tune.

    Returns:
        Parameter -> bool of its shape: positions that the pretrained model has not, such as a new domain's or a new feature's.
    """
    new = shapes_only(layout, experiment.model)
    before, after = axes_of(shapes_only(base.layout, base.experiment.model)), axes_of(new)
    levels, out = levels_of(new), {}
    for name, parameter in new.named_parameters():
        if levels[name] in experiment.training.freeze:
            out[f"dense.{name}"] = new_positions(parameter.shape, before.get(name), after[name])
    return out


def freeze_known_rows(
    base: Pretrained, sharded: DistributedModelParallel, layout: Layout, changed: Mapping[str, ChangedRows]
) -> None:
    """Lets only those rows of tables learn that the pretrained run has not, or that are another id's by now: its own get a moment no
    gradient can move.

    For a model of the given layout that has taken no step yet. The moments are part of its checkpoints.
    """
    fused = sharded.fused_optimizer
    state = fused.state_dict()
    for parameter, moments in state["state"].items():
        table = parameter.split("embedding_bags.")[1].removesuffix(".weight")
        known, rows = base.layout.tables.get(table, 0), layout.tables[table]
        new = torch.from_numpy(changed[table].new) if table in changed else torch.arange(0)
        for moment in moments.values():
            for part in moment.local_shards():
                at = rows_of_moment(part, rows)
                part.tensor[((at < known) & ~torch.isin(at, new)).to(part.tensor.device)] = STAYS
    fused.load_state_dict(state)


class PartlyFrozen:
    """Dense parameters of which a part must stay."""

    def __init__(self, parameters: Mapping[str, Tensor], learning: Mapping[str, Tensor]):
        """Args: the model's parameters; what `learning_parts` says of them."""
        partly = [name for name, learns in learning.items() if learns.any() and not learns.all()]
        self._parts = [(parameters[name], ~learning[name].to(parameters[name].device)) for name in partly]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around a step: their gradients count neither for the norm nor for the optimizer's moments, weight decay is undone."""
        for parameter, stays in self._parts:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(stays, 0)
        kept = [parameter.detach()[stays] for parameter, stays in self._parts]
        yield
        for (parameter, stays), values in zip(self._parts, kept, strict=True):
            parameter.detach()[stays] = values
