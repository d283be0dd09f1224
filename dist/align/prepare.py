"""What can be known to be wrong with an alignment before its work: its generator, its reward, its data and its place."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from ...data.catalogs.catalog_files import known_id_types
from ...data.config.experiment import Experiment
from ...data.config.load import load_experiment, plain
from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError, nearest
from ...data.events.bad_rows import read_events
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles, check_columns
from ...data.schema.column_needs import IdTypes, needed_columns
from ...data.schema.groups import CANDIDATES, REFERENCE, REWARD
from ...data.storage import storage
from ...data.storage.file_identity import fingerprint, identities
from ...data.storage.file_systems import Location, is_uri
from ...data.storage.mirror import mirrored
from ...model.kinds import KINDS
from ..fine_tuning.pretrained import pretrained
from ..increments.record import read_increment
from ..run.kept_checkpoints import best_of_members
from ..run.new_run import check_new_or_same, differences
from ..run.run_folder import id_types_of, open_experiment, read_json
from ..score.kept_columns import check_names_apart
from ..score.recommend_input import check_names_known, check_retrieves
from ..train.delta_versions import with_versions
from ..train.prepare import Events, check_optimizer, sized
from .request import CHOSEN, REWARDED, TRAIN, AlignJob, Grouping, columns_of, place
from .reward_spec import RewardSpec
from .rewards import check_table

_EPOCHS = 5


def prepare_alignment(
    run: Location,
    out: str,
    reward: RewardSpec,
    grouping: Grouping,
    split: str = "test",
    overrides: Sequence[str] = (),
) -> AlignJob:
    """Checks everything that can be known to be wrong before the work.

    Raises:
        UserError: no run, one that finds no next item or is of several models, an unusable reward, bad events, a fine-tuning that cannot
            begin with the run, or a folder that holds something else.
    """
    if is_uri(out):
        raise UserError(out, "is in an object store, where nothing is aligned yet", "Give a folder of this machine.")
    for option, number in (("--candidates", grouping.size), ("--pool", grouping.pool)):
        if number < 2:
            raise UserError(option, f"is {number}, and a preference is one of two candidates", "Take at least 2.")
    if not (isfinite(grouping.temperature) and grouping.temperature > 0):
        raise UserError("--temperature", f"is {grouping.temperature:g}", "Give a number above 0.")
    if grouping.size > grouping.pool:
        what = f"is {grouping.size}, and candidates are drawn from the {grouping.pool} best"
        raise UserError("--candidates", what, "Take fewer, or a larger --pool.")
    if split not in ("validation", "test"):
        raise UserError("--split", f"is '{split}'", "Choose validation or test.")
    out = storage.resolved(out, Path.cwd())
    _check_outside(out, run)
    generator, types = _generator(run)
    names = [name for name, domain in generator.domains.items() if domain.users and domain.events.train is not None]
    if not any(getattr(generator.domains[name].events, split) for name in names):
        remedy = "Choose validation or test, whichever the experiment's events name."
        raise UserError(run, f"no domain has a '{split}' split to measure with", remedy)
    experiment = aligned_experiment(generator, run, out, names, overrides)
    check_optimizer(experiment, "cuda" if torch.cuda.is_available() else "cpu")
    if experiment.init_from is not None:
        pretrained(experiment)
    every = _events(run, generator, split)
    events = {name: every[name] for name in names}
    job = AlignJob(run, out, reward, grouping, split, generator, experiment, events, _contents(events))
    if reward.run is not None:
        _check_reward_run(job)
    if reward.table is not None:
        check_table(reward.table, generator, types)
    for name in names:
        taken = {need.name: need.field for need in columns_of(job, name)}
        check_names_apart(taken, (CANDIDATES, REFERENCE, REWARD, CHOSEN))
    _check_place(job, every)
    return job


def _generator(run: Location) -> tuple[Experiment, IdTypes]:
    """The experiment of a run that finds items, and names them; and the types of its ids.

    Raises:
        UserError: it does not.
    """
    folder = mirrored(run, "read")
    generator = open_experiment(folder)
    best_of_members(folder)
    if read_increment(folder) is not None:
        what = "is an increment, whose training events are those of its own files alone, and candidates are found of all that is learned from"
        remedy = f"Train a run with init_from: {run} on the events that it is to learn from, and align that one."
        raise UserError(run, what, remedy)
    for name in generator.domains:
        check_retrieves(run, generator, name)
    check_names_known(run, generator, types := known_id_types(generator, id_types_of(folder)))
    if generator.seeds > 1:
        what = f"has {generator.seeds} models, and candidates are rewarded for one"
        raise UserError(run, what, "Train one with seeds: 1, and align it.")
    return generator, types


def _events(run: Location, generator: Experiment, split: str) -> Events:
    """Domain -> split -> files, of training and of what is measured.

    Raises:
        UserError: bad data; also where a run's own training skips it.
    """
    strict, held = generator.model_copy(update={"bad_data": BadDataConfig()}), id_types_of(mirrored(run, "read"))
    try:
        events = check_events(strict, ("train", split), held=held)
        if generator.bad_data.skips:
            for name, of_splits in events.items():
                for files in of_splits.values():
                    _check_rows(name, files, generator)
    except UserError as error:
        if not generator.bad_data.skips:
            raise
        what = f"{error.what}; an alignment leaves no row out, though {run} has bad_data: skip"
        raise UserError(error.where, what, "Write the events without it.") from error
    return events


def _contents(events: Events) -> dict[str, dict[str, str]]:
    """Domain -> split -> what its files hold, as of `fingerprint`."""
    return {
        name: {split: fingerprint(identities(files.files)) for split, files in of_splits.items()}
        for name, of_splits in events.items()
    }


def _check_rows(domain: str, files: EventFiles, experiment: Experiment) -> None:
    """Raises a UserError for the first bad row."""
    for path, group in files.row_groups:
        for bad in read_events(path, group, needed_columns(experiment, domain), experiment.bad_data)[1][:1]:
            where = f"{path}: row group {group}, row {bad.row}"
            raise UserError(f"{where}, column '{bad.column}'" if bad.column else where, bad.what, "")


def aligned_experiment(
    generator: Experiment, run: Location, out: str, domains: Sequence[str], overrides: Sequence[str]
) -> Experiment:
    """The experiment of the fine-tuning: the generator's, that learns from candidates, for a few epochs, and keeps what is last; ``overrides`` change it."""
    raw: dict[str, Any] = plain(generator)
    # What optimizers know of levels that were frozen would keep these so.
    raw |= {"init_from": storage.resolved(str(run), Path.cwd()), "init_optimizer": not generator.training.freeze}
    for name in domains:
        raw["domains"][name]["events"]["train"] = storage.join(place(out, TRAIN, REWARDED, name), "*.parquet")
    raw["model"]["next_item"].setdefault("preference", {})
    training = raw["training"] | {"epochs": _EPOCHS, "keep_best": False}
    raw["training"] = {
        key: value for key, value in training.items() if key not in ("validate_every", "patience", "max_steps")
    }
    return load_experiment(raw, overrides, kinds=KINDS)


def _check_outside(out: str, run: Location) -> None:
    """Raises a UserError where a folder is a run's own, or in it: what is written there would be taken for the run's."""
    if not is_uri(run) and Path(out).resolve().is_relative_to(Path(run).resolve()):
        raise UserError(out, f"is {run}, which is aligned, or lies in it", "Give another folder for the aligned run.")


def _check_place(job: AlignJob, events: Events) -> None:
    """Makes sure that the folder is free, or holds this very alignment.

    Raises:
        UserError: it does not; the differences are listed.
    """
    if (before := read_json(job.note, dict[str, Any], {})) and before != job.settings():
        told = "; ".join(differences(before, job.settings()))
        raise UserError(job.out, f"holds another alignment ({told})", "Choose another folder, or undo the change.")
    out = Path(job.out)
    experiment = with_versions(job.experiment, out)
    train: Mapping[str, Any] = {name: of_domain["train"] for name, of_domain in events.items()}
    check_new_or_same(out, sized(experiment, train, out))


def _check_reward_run(job: AlignJob) -> None:
    """Makes sure that a run can reward candidates.

    Raises:
        UserError: no run, it does not know a domain, has no such task in one, or reads what the events do not have.
    """
    spec = job.reward
    assert spec.run is not None
    folder = mirrored(spec.run, "read")
    experiment = open_experiment(folder)
    best_of_members(folder)
    _check_outside(job.out, spec.run)
    every = {task for name in job.events if name in experiment.domains for task in experiment.domains[name].tasks}
    for task in spec.weights:
        if task not in every:
            raise UserError("--weights", f"'{task}' is not a task of {spec.run}", nearest(task, sorted(every)))
    types = known_id_types(experiment, id_types_of(folder))
    for name, of_splits in job.events.items():
        if name not in experiment.domains:
            what = f"{spec.run} does not know domain '{name}', whose candidates it is to reward"
            raise UserError("--reward", what, nearest(name, experiment.domains))
        tasks = experiment.domains[name].tasks
        if spec.weights and not set(spec.weights) & set(tasks):
            what = f"names no task of {name} in {spec.run}, whose candidates would have no reward"
            raise UserError(
                "--weights", what, f"Give one of {', '.join(tasks)} a weight." if tasks else "Leave it out."
            )
        has_tasks = any(domain.tasks for domain in experiment.domains.values())
        if has_tasks and not tasks:
            raise UserError("--reward", f"{spec.run} has no task in {name}", "Give a run that has one in each domain.")
        for files in of_splits.values():
            check_columns(files, needed_columns(experiment, name, with_labels=False), BadDataConfig(), types)
