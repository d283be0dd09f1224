"""What is counted of the training events, kept for other trainings of the same data.

Trainings that try rates and widths would count the same ids. What is kept is of the same experiment, but for settings that
`_NOT_COUNTED` names, and of the same files, catalogs and content stores.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.config.effects import remove
from ...data.config.experiment import Experiment
from ...data.config.load import plain
from ...data.counting.counting_pass import count
from ...data.counting.statistics import Statistics
from ...data.events.event_files import EventFiles
from ...data.storage.local_writes import temporary_name
from ..logs.progress import Progress
from ..run.joined import joined
from ..run.new_run import described
from ..run.old_runs import FORMAT
from ..run.run_documents import CountedOf
from ..run.run_folder import VOCABULARY, read_json, write_json

_OF = "counted_of.json"
_OF_MODEL = (
    *("embedding_dim", "width", "gate", "interaction", "id_dropout", "bias_dropout", "id_from_text", "domain_width"),
    *("alignment", "alignment_weight", "head", "shared_head"),
)
_NOT_COUNTED = ("name", "seed", "init_from", "training", *(f"model.{name}" for name in _OF_MODEL))
"""Settings that change nothing of what is counted. All others may."""


def counted(
    experiment: Experiment, train: Mapping[str, EventFiles], kept: Path | None = None
) -> tuple[Statistics, dict[str, Any]]:
    """The statistics of some training events, kept from another training or newly counted.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        kept: folder in which they are looked for, and into which they come; None to count and keep nothing.

    Returns:
        The statistics, and, where they are kept, what they are of, as of `CountedOf`.

    Raises:
        UserError: bad data, or kept statistics that are damaged.
    """
    folder, of = None, dict[str, Any]()
    if kept is not None:
        folder = kept / _digest(experiment)
        noted = read_json(folder / _OF, CountedOf, {})
        events = described(train, noted.get("events", {}))
        of = {"events": events, "joined": joined(experiment, noted.get("joined", ()))}
        if _same(of, noted):
            return Statistics.load(folder / VOCABULARY), of
    with Progress(
        "counting the training events", "rows", sum(files.rows for files in train.values()), "counting"
    ) as done:
        statistics = count(experiment, train, done.add)
    if folder is not None and not statistics.skipped.rows:  # where bad rows are is told by whoever counts
        _keep(folder, statistics, of)
    return statistics, of


def _digest(experiment: Experiment) -> str:
    """What tells experiments apart whose counts may differ."""
    raw = plain(experiment)
    for key in _NOT_COUNTED:
        remove(raw, key)
    for domain in raw["domains"].values():
        del domain["events"]  # what their files hold is compared
    if any(domain.whole_lists for domain in experiment.domains.values()):
        raw["batch_size"] = experiment.training.batch_size  # the longest list that is allowed
    return hashlib.sha256(json.dumps([FORMAT, raw], sort_keys=True).encode()).hexdigest()[:16]


def _same(of: Mapping[str, Any], noted: Mapping[str, Any]) -> bool:
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if key != "stat"}
        return [bare(inner) for inner in value] if isinstance(value, list | tuple) else value

    return bare(of) == bare(noted)


def _keep(folder: Path, statistics: Statistics, of: Mapping[str, Any]) -> None:
    """In one piece; of two trainings that count at the same time, one comes first."""
    making = folder.with_name(temporary_name(folder.name))
    shutil.rmtree(making, ignore_errors=True)
    statistics.save(making / VOCABULARY)
    write_json(making / _OF, dict(of))
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of data that has changed
        os.rename(making, folder)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
