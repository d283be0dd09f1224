"""What predicts for a run: its model, or all of its models as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torchrec.distributed import DistributedModelParallel

from ...data.config.experiment import Experiment
from ...data.storage.mirror import shown
from ...model.foundation.mean_of_models import MeanOfModels
from ..logs.records import warning
from ..ranks.runtime import Runtime
from ..run.checkpoint_writer import load
from ..run.kept_checkpoints import checked_best, members


def checked_members(run: Path, experiment: Experiment, runtime: Runtime) -> list[Path]:
    """The folders of the best checkpoints of a run's models, of those that have one, as of `checked_best`. A collective.

    Says so where not all of them are trained yet.

    Raises:
        UserError: as of `checked_best`.
    """
    names = runtime.on_main(lambda: [folder.relative_to(run) for folder in members(run)])
    if len(names) < experiment.seeds and runtime.is_main:
        warning(
            f"{shown(run)} has {len(names)} of its {experiment.seeds} models so far: what it predicts is their mean"
        )
    return [checked_best(run / name, runtime) for name in names]


def predictor(
    models: Sequence[DistributedModelParallel], checkpoints: Sequence[Path]
) -> tuple[nn.Module, dict[str, Any]]:
    """Loads each model's checkpoint; several predict as one. And the first one's ``state``.

    All of them are in memory at once, so that the data is read once.
    """
    states = [load(checkpoint, model) for checkpoint, model in zip(checkpoints, models, strict=True)]
    return (models[0] if len(models) == 1 else MeanOfModels(models)), states[0]
