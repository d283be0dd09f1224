"""What an alignment is given."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.arrow.column_need import ColumnNeed
from ...data.config.experiment import Experiment
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.storage import storage
from ...data.storage.file_identity import identities
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_folder import CANDIDATES as FOLDER
from ..run.run_folder import open_experiment
from .reward_spec import RewardSpec

TRAIN, BEFORE, AFTER = "train", "before", "after"
"""Of what candidates are found: of training's rows, to learn from; and of the measured ones, by the generator as it was and as it is."""
CHOSEN = "chosen"
"""Column of what is measured: whether the row's own item was taken."""
FOUND, REWARDED = "found", "rewarded"
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
        contents: domain -> split -> `fingerprint` of these.
    """

    run: Location
    out: str
    reward: RewardSpec
    grouping: Grouping
    split: str
    generator: Experiment
    experiment: Experiment
    events: Mapping[str, Mapping[str, EventFiles]]
    contents: Mapping[str, Mapping[str, str]]

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
        return told | {"reward": reward, "events": self.contents}

    def place(self, of: str, stage: str, domain: str) -> str:
        """The folder of the parts of a stage."""
        return place(self.out, of, stage, domain)

    def files(self, of: str) -> dict[str, EventFiles]:
        """domain -> its files: of what is learned from, or measured."""
        split = "train" if of == TRAIN else self.split
        return {name: of_domain[split] for name, of_domain in self.events.items() if split in of_domain}


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
