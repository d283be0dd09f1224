"""What an alignment is given: the job, and what its generator, its reward and its data must have."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.arrow.column_need import ColumnNeed
from ...data.config.experiment import Experiment
from ...data.config.load import load_experiment, plain
from ...data.errors import UserError, nearest
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.schema.groups import CANDIDATES, REFERENCE, REWARD
from ...data.storage import storage
from ...data.storage.file_identity import identities
from ...data.storage.file_systems import Location, is_uri
from ...data.storage.mirror import mirrored
from ...model.kinds import KINDS
from ..run.kept_checkpoints import best_of_members, identity
from ..run.new_run import differences
from ..run.run_folder import CANDIDATES as FOLDER
from ..run.run_folder import id_types_of, open_experiment, read_json
from ..score.kept_columns import check_names_apart
from .reward_spec import RewardSpec
from .rewards import check_table

TRAIN, BEFORE, AFTER = "train", "before", "after"
"""Of what candidates are found: of training's rows, to learn from; and of the measured ones, by the generator as it was and as it is."""
CHOSEN = "chosen"
"""Column of what is measured: whether the row's own item was taken."""
FOUND, REWARDED = "found", "rewarded"
_EPOCHS = 5
LISTED = 10
"""Items of each measured list."""


@dataclass(frozen=True)
class Grouping:
    """How candidates of a row are found.

    Attributes:
        size: G, of how many at most.
        pool: drawn from so many of the best; as many as ``size``: these are taken as they are.
        temperature: what scores are divided by before.
    """

    size: int = 16
    pool: int = 100
    temperature: float = 1.0


@dataclass(frozen=True)
class AlignJob:
    """What is aligned with what.

    Attributes:
        run: the generator's folder, or its URI.
        out: folder of the aligned run.
        reward: what says how good a candidate is.
        grouping: of candidates.
        split: which is measured.
        generator: the generator's experiment.
        experiment: that of the aligned run.
        events: domain -> split -> files, of training and of what is measured; of domains with users and a training split.
    """

    run: Location
    out: str
    reward: RewardSpec
    grouping: Grouping
    split: str
    generator: Experiment
    experiment: Experiment
    events: Mapping[str, Mapping[str, EventFiles]]

    @property
    def folder(self) -> Path:
        """Where this machine has the generator's folder."""
        return mirrored(self.run, "read")

    @property
    def note(self) -> Path:
        """The file that says which alignment the folder is of."""
        return Path(self.out) / FOLDER / "alignment_of.json"

    def settings(self) -> dict[str, Any]:
        """What the candidates and their rewards depend on."""
        told: dict[str, Any] = {"generator": identity(best_of_members(self.folder)), "split": self.split}
        told |= {"weights": dict(self.reward.weights), "grouping": asdict(self.grouping)}
        reward = self.reward.name  # of what may be elsewhere by now, what it holds counts
        if self.reward.run is not None:
            reward = identity(best_of_members(mirrored(self.reward.run, "read")))
        if self.reward.table is not None:
            reward = identities([self.reward.table])[0]["checksum"]
        return told | {"reward": reward}

    def place(self, of: str, stage: str, domain: str) -> str:
        """The folder of the parts of a stage."""
        return place(self.out, of, stage, domain)

    def files(self, of: str) -> dict[str, EventFiles]:
        """domain -> its files: of what is learned from, or measured."""
        split = "train" if of == TRAIN else self.split
        return {name: of_domain[split] for name, of_domain in self.events.items() if split in of_domain}


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
        UserError: no run, one that finds no next item or is of several models, an unusable reward, or bad events.
    """
    if is_uri(out):
        raise UserError(out, "is in an object store, where nothing is aligned yet", "Give a folder of this machine.")
    if grouping.size > grouping.pool:
        what = f"is {grouping.size}, and candidates are drawn from the {grouping.pool} best"
        raise UserError("--candidates", what, "Take fewer, or a larger --pool.")
    out = storage.resolved(out, Path.cwd())
    folder = mirrored(run, "read")
    generator = open_experiment(folder)
    best_of_members(folder)
    if generator.model.next_item is None:
        raise UserError(run, "was not trained to predict the next item", "Align a run trained with model.next_item.")
    if generator.seeds > 1:
        what = f"has {generator.seeds} models, and candidates are rewarded for one"
        raise UserError(run, what, "Train one with seeds: 1, and align it.")
    if split not in ("validation", "test"):
        raise UserError("--split", f"is '{split}'", "Choose validation or test.")
    names = [name for name, domain in generator.domains.items() if domain.users and domain.events.train is not None]
    if not any(getattr(generator.domains[name].events, split) for name in names):
        remedy = "Choose validation or test, whichever the experiment's events name."
        raise UserError(run, f"no domain has a '{split}' split to measure with", remedy)
    experiment = aligned_experiment(generator, run, out, names, overrides)
    events = check_events(generator, ("train", split), held=id_types_of(folder))
    job = AlignJob(run, out, reward, grouping, split, generator, experiment, {name: events[name] for name in names})
    if reward.run is not None:
        _check_reward_run(job)
    if reward.table is not None:
        check_table(reward.table, generator)
    if (before := read_json(job.note, dict[str, Any], {})) and before != job.settings():
        told = "; ".join(differences(before, job.settings()))
        raise UserError(out, f"holds another alignment ({told})", "Choose another folder, or undo the change.")
    for name in names:
        taken = {need.name: need.field for need in columns_of(job, name)}
        check_names_apart(taken, (CANDIDATES, REFERENCE, REWARD, CHOSEN))
    return job


def aligned_experiment(
    generator: Experiment, run: Location, out: str, domains: Sequence[str], overrides: Sequence[str]
) -> Experiment:
    """The experiment of the fine-tuning: the generator's, that learns from candidates, for a few epochs, and keeps what is last; ``overrides`` change it."""
    raw: dict[str, Any] = plain(generator)
    raw |= {"init_from": storage.resolved(str(run), Path.cwd()), "init_optimizer": True}
    for name in domains:
        raw["domains"][name]["events"]["train"] = storage.join(place(out, TRAIN, REWARDED, name), "*.parquet")
    raw["model"]["next_item"].setdefault("preference", {})
    training = raw["training"] | {"epochs": _EPOCHS, "keep_best": False}
    raw["training"] = {key: value for key, value in training.items() if key not in ("validate_every", "patience")}
    return load_experiment(raw, overrides, kinds=KINDS)


def place(out: str, of: str, stage: str, domain: str) -> str:
    """The folder of the parts of a stage of an alignment."""
    return storage.join(out, FOLDER, of, stage, domain)


def columns_of(job: AlignJob, domain: str) -> list[ColumnNeed]:
    """The columns of a domain's events that the fine-tuning or the reward reads."""
    needs = needed_columns(job.generator, domain)
    if job.reward.run is not None:
        reward = open_experiment(mirrored(job.reward.run, "read"))
        needs = [*needs, *needed_columns(reward, domain, with_labels=False)]
    return list({need.name: need for need in needs}.values())


def _check_reward_run(job: AlignJob) -> None:
    """Makes sure that a run can reward candidates.

    Raises:
        UserError: no run, it does not know a domain, or has no such task in one.
    """
    spec = job.reward
    assert spec.run is not None
    folder = mirrored(spec.run, "read")
    experiment = open_experiment(folder)
    best_of_members(folder)
    for name in job.events:
        if name not in experiment.domains:
            what = f"{spec.run} does not know domain '{name}', whose candidates it is to reward"
            raise UserError("--reward", what, nearest(name, experiment.domains))
        tasks = experiment.domains[name].tasks
        for task in spec.weights:
            if task not in tasks:
                raise UserError("--weights", f"'{task}' is not a task of {name} in {spec.run}", nearest(task, tasks))
        has_tasks = any(domain.tasks for domain in experiment.domains.values())
        if has_tasks and not tasks:
            raise UserError("--reward", f"{spec.run} has no task in {name}", "Give a run that has one in each domain.")
