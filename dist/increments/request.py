"""What the next increment of a run is: one that was begun and not finished, or the files that were asked for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...data.config.experiment import Experiment
from ...data.config.kinds import Kinds
from ...data.config.load import load_experiment, plain
from ...data.contents.content_store import open_store, store_folder
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles, list_events
from ...data.storage import storage
from ...data.storage.file_identity import untouched
from ...data.storage.file_systems import Location
from ...data.storage.globs import expand_glob
from ...data.storage.mirror import mirrored, origin, shown
from ..fine_tuning.pretrained import Pretrained, pretrained
from ..logs.records import info
from ..promote.promote import current_run, promotions
from ..run.kept_checkpoints import member_folder
from ..run.new_run import described
from ..run.run_documents import RunInfo
from ..run.run_folder import EXPERIMENT, INCREMENTS, RUN_INFO, fetch_run, id_types_of, open_experiment, read_json
from ..train.prepare import check_optimizer
from .forget import statistics_without
from .learned_files import all_among, are_known, are_learned
from .partitions import partitions, patterns_of
from .record import (
    add_to_record,
    begun,
    digest_of,
    folder_name,
    given_up,
    learned_by,
    read_increment,
    read_record,
    remove,
)
from .watch import Watch

_ONCE: dict[str, Any] = {"epochs": 1, "schedule": {"kind": "constant"}, "keep_best": False}
_OF_A_WHOLE_TRAINING = ("max_steps", "validate_every", "patience")


@dataclass(frozen=True)
class Request:
    """What an update was asked for.

    Attributes:
        run: the run that is updated, its folder or its URI.
        events: patterns of its new events, as of `patterns_of`.
        folder: that these are relative to.
        changes: ``key=value``, to the experiment.
        kinds: what it may choose from.
        keep: how many of the newest versions are kept.
        max_drop: how much lower the current version may score than the one before it; None: that is not looked at.
        forget: ``ENTITY=FILES``, in place of events: the ids that are forgotten.
        follow: seconds between two looks for more events; None: there is one look.
    """

    run: Location
    events: tuple[str, ...]
    folder: str
    changes: tuple[str, ...]
    kinds: Kinds
    keep: int
    max_drop: float | None = None
    forget: tuple[str, ...] = ()
    follow: float | None = None

    @property
    def here(self) -> Path:
        """Where this machine has the run."""
        return mirrored(self.run, "work")


@dataclass(frozen=True)
class Next:
    """An increment that is to be learned.

    Attributes:
        request: that it is a part of.
        experiment: of it: the current version's, with its events, and going on from that one.
        base: the current version, its folder or its URI.
        train: domain -> its files; none where ids are forgotten.
        told: what is known of it, as of `record.Increment`.
    """

    request: Request
    experiment: Experiment
    base: str
    train: dict[str, EventFiles]
    told: dict[str, Any]

    @property
    def forgets(self) -> bool:
        """Whether it forgets ids, and learns from nothing."""
        return not any(files.files for files in self.train.values())

    @property
    def run(self) -> str:
        """The run that it makes, its folder or its URI."""
        return storage.join(self.request.run, self.told["run"])

    @property
    def folder(self) -> Path:
        """Where this machine has that."""
        return mirrored(self.run, "work")


def next_increment(request: Request, watch: Watch | None = None) -> Next | None:
    """What is to be learned next; None where nothing is left.

    Args:
        request: what was asked for.
        watch: says which partitions of events are complete; None: all are.

    Raises:
        UserError: the run's training is not finished; no such events, bad ones, or some that have been learned from already.
    """
    run = request.here
    fetch_run(run)
    base = str(current_run(request.run))
    version = os.path.relpath(base, request.run)
    known = {of["run"] for of in read_record(run)}
    for published in promotions(request.run, given_up=True):  # a killed job may not have come to the record
        if published not in known and (told := read_increment(run / published)) is not None:
            add_to_record(run, told)
            known.add(published)
    base_here = mirrored(base, "read")
    before = open_experiment(base_here, request.kinds)
    infos = [read_json(member_folder(base_here, number) / RUN_INFO, RunInfo, {}) for number in range(before.seeds)]
    if any("parameters" not in info for info in infos):
        raise UserError(base, "has not been trained to its end", "Train it first; the same command goes on.")
    for folder in begun(run):
        there = storage.join(origin(folder) or folder, EXPERIMENT)
        unfinished = f"{INCREMENTS}/{folder.name}" not in known and storage.is_file(there)
        if unfinished and (found := _unfinished(request, folder, base, version)) is not None:
            return found
    if request.forget:
        return _to_forget(request, before, base, version)
    return _asked(request, before, base, version, watch)


def _unfinished(request: Request, folder: Path, base: str, version: str) -> Next | None:
    """An increment that was begun on top of the current version; with its events as they are by now."""
    experiment = open_experiment(folder, request.kinds)
    if experiment.init_from != base:
        return None
    try:
        found = check_events(experiment, ["train"], held=id_types_of(folder))
    except UserError as error:
        remedy = f"{error.remedy} Or remove {folder}, and give these events again."
        raise UserError(error.where, f"{error.what}; an increment that was begun needs it", remedy) from error
    train = {name: of["train"] for name, of in found.items()}
    told = _told(int(folder.name.split("-")[0]), version, experiment, described(train))
    if request.here / told["run"] != folder:
        info(shown(f"{folder}: its events have changed since it was begun; it begins anew"))
        remove(folder)
    else:
        info(f"{told['run']} was begun and not finished; it comes first", "increment", increment=told["increment"])
    return Next(request, experiment, base, train, told)


def _to_forget(request: Request, before: Experiment, base: str, version: str) -> Next | None:
    """A version without ids; None where nothing is known of any of them."""
    experiment = _experiment(request, base, before, {})
    _check_kept(experiment, pretrained(experiment))
    if statistics_without(request.forget, before, mirrored(base, "read")) is None:
        return None
    return Next(request, experiment, base, {}, _told(_next_number(request.here), version, experiment, {}))


def _asked(request: Request, before: Experiment, base: str, version: str, watch: Watch | None) -> Next | None:
    """The first of the partitions that were asked for that has not been learned from; None, too, where that one is not complete."""
    patterns = patterns_of(request.events, before, request.folder)
    learned = list(learned_by(request.here, version)) if patterns else []
    every = partitions(patterns)
    # What a version that was given up has learned from is learned again only where it is named alone.
    left_out = given_up(request.here, version) if len(every) > 1 else []
    noted = [file for _, file in learned]
    known = {file["file"]: file for file in noted}
    if watch is not None:
        watch.look(every, len(patterns))
    for partition in every:
        found = [file for pattern in partition.values() for file in expand_glob(pattern)]
        if all(untouched(file, known.get(file, {})) for file in found):  # spares reading what they hold
            continue
        if watch is not None and watch.is_done(partition):
            continue
        if watch is not None and not watch.is_complete(partition):
            if not are_known(found, noted):
                return None
            watch.done(partition)
            continue
        listed = {name: list_events(of, f"--events {name}={of}", before.bad_data) for name, of in partition.items()}
        files = described({name: of for name, of in listed.items() if of.rows}, dict.fromkeys(listed, noted))
        if not files or are_learned(learned, files, watch is not None) or all_among(left_out, files):
            if watch is not None:
                watch.done(partition)
            continue
        experiment = _experiment(request, base, before, {name: partition[name] for name in files})
        check_optimizer(experiment, "cuda" if torch.cuda.is_available() else "cpu")
        _check_kept(experiment, pretrained(experiment))
        checked = check_events(experiment, ["train"], held=id_types_of(mirrored(base, "read")))
        train = {name: of["train"] for name, of in checked.items()}
        told = _told(_next_number(request.here), version, experiment, described(train, files))
        return Next(request, experiment, base, train, told)
    return None


def _next_number(run: Path) -> int:
    return max((of["increment"] for of in read_record(run)), default=0) + 1


def _check_kept(experiment: Experiment, before: Pretrained) -> None:
    """Raises a UserError where the current version, which may be of an older foundrank, has not kept what an increment goes on with."""
    rates, objective = before.statistics.rates, experiment.model.next_item
    needed = None
    if experiment.model.rates and (rates is None or rates.so_far is None):
        needed = "the sums of labels that model.rates are made of"
    elif objective is not None and not before.statistics.items:
        needed = "the items of each domain, among which --domain and model.next_item.candidates: domain look"
    if needed is not None:
        what = f"has not kept {needed}, and an update reads the new events alone"
        raise UserError(before.run, what, "Train it again, and update that run.")


def _told(
    number: int, version: str, experiment: Experiment, files: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """As of `record.Increment`; ``files`` as of `described`."""
    digest, events = digest_of(files), {name: domain.events.train for name, domain in experiment.domains.items()}
    return {
        "increment": number,
        "digest": digest,
        "run": folder_name(number, digest),
        "base": version,
        "events": {name: pattern for name, pattern in events.items() if pattern is not None},
        "files": {
            name: [
                {key: file[key] for key in ("file", "bytes", "checksum", "stat") if key in file} for file in of_domain
            ]
            for name, of_domain in files.items()
            if of_domain
        },
        "rows": sum(sum(file.get("rows", ())) for of_domain in files.values() for file in of_domain),
    }


def _experiment(request: Request, base: str, before: Experiment, patterns: Mapping[str, str]) -> Experiment:
    """The current version's experiment, for one pass over new events that goes on from it."""
    if before.training.freeze:
        what = f"was trained with {', '.join(before.training.freeze)} frozen, and an update moves all that it learns"
        raise UserError(base, what, "Update the run that it began with, or one without training.freeze.")
    for of in before.stores_read():  # an update adds to the vectors that the run was trained with, and makes no others
        open_store(store_folder(before, of))
    raw = plain(before)
    for name, domain in raw["domains"].items():
        domain["events"].pop("train", None)
        if name in patterns:
            domain["events"]["train"] = patterns[name]
    raw["init_from"], raw["init_optimizer"] = base, True
    raw["training"] |= _ONCE
    for key in _OF_A_WHOLE_TRAINING:
        raw["training"].pop(key, None)
    return load_experiment(raw, request.changes, kinds=request.kinds)
