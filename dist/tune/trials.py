"""The trials: Optuna's own record of them in a file, and who is at work on which.

Every process that tunes in a folder has the same part: under a lease of the folder it takes a trial that nobody is at work on, or asks
for a new one, and holds the lease of that trial's folder while it trains.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState

from ...data.config.load import plain
from ...data.errors import UserError
from ..lease.lease import Claim, Held, holding
from .prepare import Tuning
from .space import Setting, own_value
from .turns import alone

JOURNAL, TRIALS = "trials.log", "trials"
TENTHS = 10  # of an epoch: the unit in which a validation's place is told
_FIRST_LOOK = 5  # tenths of an epoch, before which no trial is given up
_SURVIVING = 2  # one of so many goes on, each time that the epochs double
ERROR = "error"


@dataclass
class Claimed:
    """A trial that this process is at work on.

    Attributes:
        number: from 0.
        trial: Optuna's.
        folder: of the trial.
        changes: dotted key -> its value; nothing in the first trial, which is the experiment as it is.
        lease: held until it is closed.
        lost: set when another has the folder.
    """

    number: int
    trial: Trial
    folder: Path
    changes: dict[str, Any]
    lease: ExitStack = field(default_factory=ExitStack)
    lost: bool = False


class Trials:
    """All trials of a folder."""

    def __init__(self, job: Tuning, seed: int, most: int):
        """Opens them.

        Args:
            job: what is tuned.
            seed: of the sampler.
            most: how many trials there are to be.

        Raises:
            UserError: their file is damaged.
        """
        self._out, self.space, self._seed, self.most = job.out, job.space, seed, most
        own = plain(job.experiment)
        self._own = {key: value for key, of in self.space.items() if of.has(value := own_value(own, key))}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.study = _study(self._out / JOURNAL)

    def claim(self) -> Claimed | None:
        """A trial to work on, one that was left or a new one; None where all are done or others are at work on them."""
        with self.alone():
            known = self.study.get_trials(deepcopy=False)
            for left in known:
                if left.state == TrialState.RUNNING and (found := self._take(left)) is not None:
                    return found
            if sum(one.state != TrialState.WAITING for one in known) >= self.most:
                return None
            if not known:
                self.study.enqueue_trial({key: _stored(self.space[key], value) for key, value in self._own.items()})
            return self._take(self.study.ask())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it no other process claims a trial or writes what came of them."""
        with alone(self._out, "trials"):
            yield

    def done(self) -> list[FrozenTrial]:
        """Those that have ended, in order."""
        return [one for one in self.study.get_trials(deepcopy=False) if one.state.is_finished()]

    def whole(self) -> list[FrozenTrial]:
        """Those that went to their end, in order."""
        return [one for one in self.done() if one.state == TrialState.COMPLETE]

    def at_work(self) -> int:
        """How many have begun and not ended."""
        return sum(one.state == TrialState.RUNNING for one in self.study.get_trials(deepcopy=False))

    def best(self) -> FrozenTrial | None:
        """The best of those that went to their end; of equal ones the first."""
        return max(self.whole(), key=lambda one: (one.value, -one.number), default=None)

    def changes(self, trial: FrozenTrial | Trial) -> dict[str, Any]:
        """What a trial changes in the experiment."""
        return {key: _read(self.space[key], value) for key, value in trial.params.items()} if trial.number else {}

    def folder(self, number: int) -> Path:
        """Where a trial is kept."""
        return self._out / TRIALS / f"{number:04d}"

    def _take(self, one: Trial | FrozenTrial) -> Claimed | None:
        folder, lease = self.folder(one.number), ExitStack()
        found: list[Claimed] = []

        def lose(_: UserError) -> None:
            for each in found:
                each.lost = True

        try:
            lease.enter_context(holding(Claim(folder, "tune"), lose))
        except Held:
            return None
        trial = one if isinstance(one, Trial) else Trial(self.study, one._trial_id)
        # By the number: a process that takes over would draw again what was drawn before.
        digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.sampler = optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"))
        for key, setting in self.space.items():
            if trial.number or key in self._own:
                _suggest(trial, key, _distribution(setting))
        changes = self.changes(trial)
        found.append(Claimed(trial.number, trial, folder, changes, lease))
        return found[0]


def _study(journal: Path) -> optuna.Study:
    """Optuna's record in a file, less what a power failure or a full disk has left half written.

    Raises:
        UserError: something else in the file cannot be read.
    """
    lock = JournalFileSymlinkLock(str(journal))  # what others hold while they write a line
    lock.acquire()
    try:
        if journal.exists():
            with journal.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
    finally:
        lock.release()
    try:
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="tune",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=_FIRST_LOOK, reduction_factor=_SURVIVING),
        )
    except ValueError as error:  # among them those of json
        remedy = "Remove the line that is no JSON, or tune into another folder."
        raise UserError(journal, f"is damaged: {error}", remedy) from error


def _suggest(trial: Trial, key: str, values: BaseDistribution) -> None:
    if isinstance(values, CategoricalDistribution):
        trial.suggest_categorical(key, values.choices)
    elif isinstance(values, IntDistribution):
        trial.suggest_int(key, values.low, values.high, log=values.log)
    elif isinstance(values, FloatDistribution):
        trial.suggest_float(key, values.low, values.high, log=values.log)


def _distribution(setting: Setting) -> BaseDistribution:
    if setting.choice is not None:
        return CategoricalDistribution([json.dumps(value) for value in setting.choice])
    ends = setting.ends
    assert ends is not None
    if all(isinstance(end, int) for end in ends):
        return IntDistribution(int(ends[0]), int(ends[1]), log=setting.log is not None)
    return FloatDistribution(*ends, log=setting.log is not None)


def _stored(setting: Setting, value: Any) -> Any:
    return value if setting.choice is None else json.dumps(value)


def _read(setting: Setting, value: Any) -> Any:
    if setting.choice is not None:
        return json.loads(value)
    return float(f"{value:.4g}") if isinstance(value, float) else value  # which a person can read in the file
