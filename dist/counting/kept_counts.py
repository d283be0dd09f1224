"""What is counted of the training events, kept for other trainings of the same data.

Trainings that try rates and widths would count the same ids. What is kept is of the same experiment, but for settings that
`_NOT_COUNTED` names, and of the same files, catalogs and content stores.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.config.effects import remove
from ...data.config.experiment import Experiment
from ...data.config.load import plain
from ...data.counting.count_tables import CountTables, write_tables
from ...data.counting.statistics import Statistics
from ...data.counting.tally import EventCounts
from ...data.errors import UserError
from ...data.events.event_files import EventFiles
from ...data.storage import storage
from ...data.storage.file_identity import identities
from ...data.storage.local_writes import temporary_name
from ...data.storage.mirror import shown
from ...data.storage.new_folder import check_can_be_made
from ..logs.records import info
from ..run.joined import joined
from ..run.new_run import described
from ..run.old_runs import FORMAT
from ..run.run_documents import CountedOf
from ..run.run_folder import VOCABULARY, read_json, write_json

_OF, _TABLES = "counted_of.json", "tables"
_OF_MODEL = (
    *("embedding_dim", "width", "gate", "interaction", "id_dropout", "hide_rare_items", "unknown_id", "bias_dropout"),
    *("content_conditioning", "id_from_text", "domain_width", "alignment", "alignment_weight", "head", "shared_head"),
)
_NOT_COUNTED = ("name", "seed", "seeds", "training", *(f"model.{name}" for name in _OF_MODEL))
"""Settings that change nothing of what is counted. All others may."""


def check_counts(folder: Path) -> None:
    """Finds out before the work whether counts can be kept in a folder.

    Raises:
        UserError: it is a file, or cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", "Give a folder for what is counted.")
    check_can_be_made(folder, folder, "Choose another folder for what is counted.")


def kept_counts(
    folder: Path | None, experiment: Experiment, train: Mapping[str, EventFiles], given: CountTables | None = None
) -> tuple[Statistics | None, dict[str, Any]]:
    """What another training has counted of the same data.

    Args:
        folder: in which it is looked for; None for nowhere.
        experiment: the experiment.
        train: domain -> its training files.
        given: tables of which alone they may be made; None for any, and for what was counted here.

    Returns:
        The statistics, or None where there are none or damaged ones; and what the files are, as of `CountedOf`, if there is a folder.
    """
    if folder is None:
        return None, {}
    kept = folder / digest(experiment)
    before, noted = _which(kept), _noted(kept)
    events = described(train, noted.get("events", {}))
    of: dict[str, Any] = {"events": events, "joined": joined(experiment, noted.get("joined", ()))}
    made_of = noted.get("tables", [])
    if given is not None:
        of["tables"] = made_of = identities(given.every_file, made_of)
    if not _same(of, noted):
        return None, of
    try:
        statistics = Statistics.load(kept / VOCABULARY)
    except (UserError, OSError) as error:
        info(f"the training events are counted anew: {error}")
        if _which(kept) == before:
            _remove(kept)
        return None, of
    if _which(kept) != before:  # replaced meanwhile, so what was read may be of other data
        return None, of
    elsewhere = f", elsewhere ({_folder_of(made_of[0]['file'])})" if made_of else ""
    info(f"the training events were counted before{elsewhere}: {shown(kept)}")
    return statistics, of | {"tables": made_of}


def _folder_of(file: str) -> str:
    """Of a table's file: the table may be one itself, or a folder of files."""
    folder = str(storage.parent(file))
    return str(storage.parent(folder)) if folder.endswith(".parquet") else folder


def keep_counts(
    folder: Path, experiment: Experiment, statistics: Statistics, events: EventCounts, of: Mapping[str, Any]
) -> None:
    """Keeps statistics for other trainings, in one piece: of two that count the same at the same time, the first's stay.

    Not those with bad rows left out: which ones they are is told by whoever counts.

    Args:
        folder: into which they come.
        experiment: the experiment.
        statistics: what was counted.
        events: what they are made of, which is written as tables.
        of: what the files are, as `kept_counts` gave it.
    """
    if statistics.skipped.rows:
        return
    kept = folder / digest(experiment)
    making = kept.with_name(temporary_name(kept.name))
    shutil.rmtree(making, ignore_errors=True)
    statistics.save(making / VOCABULARY)
    write_tables(making / _TABLES, events.ids, events.dense, statistics.rows)
    write_json(making / _OF, dict(of))
    if _which(kept) is not None and not _same(of, _noted(kept)):  # of data that has changed
        _remove(kept)
    try:
        os.rename(making, kept)
    except OSError:  # another training's are there
        shutil.rmtree(making, ignore_errors=True)


def tables_in(folder: Path, experiment: Experiment) -> Path:
    """Where in a folder for counts the tables of an experiment are, as of `write_tables`."""
    return folder / digest(experiment) / _TABLES


def _which(kept: Path) -> tuple[int, int] | None:
    """Tells a folder from another that takes its place; None where there is none."""
    try:
        found = kept.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _noted(kept: Path) -> dict[str, Any]:
    try:
        return read_json(kept / _OF, CountedOf, {})
    except (UserError, OSError):  # damaged, or just being replaced
        return {}


def _remove(kept: Path) -> None:
    """In one piece, so that others find it whole or not at all."""
    aside = kept.with_name(temporary_name(f"{kept.name}.old"))
    with suppress(OSError):  # another training was first
        os.rename(kept, aside)
    shutil.rmtree(aside, ignore_errors=True)


def digest(experiment: Experiment) -> str:
    """What tells experiments apart whose counts may differ."""
    raw = plain(experiment)
    for key in _NOT_COUNTED:
        remove(raw, key)
    for domain in raw["domains"].values():
        del domain["events"]  # what their files hold is compared
    if any(domain.whole_lists for domain in experiment.domains.values()):
        raw["batch_size"] = experiment.training.batch_size  # the longest list that is allowed
    if experiment.model.rates:
        raw["in_order"] = [*experiment.domains]  # by their numbers, what is known of an id in a domain is found
    if experiment.model.similarity is not None:
        raw["compared"] = experiment.compared()  # which the gate has a part in
    return hashlib.sha256(json.dumps([FORMAT, raw], sort_keys=True).encode()).hexdigest()[:16]


def _same(of: Mapping[str, Any], noted: Mapping[str, Any]) -> bool:
    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if key != "stat"}
        return [bare(inner) for inner in value] if isinstance(value, list | tuple) else value

    return all(bare(of[name]) == bare(noted.get(name)) for name in of)
