"""What a training does before there are ranks: it finds mistakes, counts the events and makes the run folder.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

from pathlib import Path

import torch

from ..data.check import check_events
from ..data.encode import EventEncoder
from ..data.errors import UserError
from ..data.experiment import Experiment
from ..data.parquet import EventFiles
from ..data.settings import TrainingConfig
from ..data.statistics import count
from .run_folder import check_new_or_same, create_run

Events = dict[str, dict[str, EventFiles]]
"""Domain -> split -> files."""


def prepare(experiment: Experiment, run: Path) -> Events:
    """Checks the events, counts them and makes the run folder; on rank 0 only. A run being resumed is not counted again."""
    _check_optimizer(experiment.training)
    events = check_events(experiment)
    if not check_new_or_same(run, experiment):
        statistics = count(experiment, {name: of_domain["train"] for name, of_domain in events.items()})
        EventEncoder(experiment, statistics)  # finds bad catalogs and text stores before there is a run
        create_run(run, experiment, statistics)
    return events


def _check_optimizer(training: TrainingConfig) -> None:
    """Refuses a sparse optimizer that FBGEMM cannot fuse on this machine.

    Raises:
        UserError: Adam without a GPU.
    """
    if training.sparse_optimizer == "adam" and not torch.cuda.is_available():
        raise UserError(
            "training.sparse_optimizer",
            "'adam' runs on GPUs only, and this machine has none",
            "Use rowwise_adagrad or sgd here.",
        )
