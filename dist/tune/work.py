"""A trial at work: its training, what Optuna is told of it, and how it ends."""

import signal
import time
from collections.abc import Mapping
from typing import Any

import yaml
from optuna.trial import TrialState

from ...data.config.load import plain
from ...data.errors import UserError
from ..ranks.statuses import DONE, INTERRUPTED, TRY_AGAIN
from ..run.run_documents import Best, Validation
from ..run.run_folder import BEST, VALIDATION, read_json
from .objective import best_so_far
from .prepare import COUNTS, Tuning, without_test
from .training import Training
from .trials import ERROR, TENTHS, Claimed

_AGAIN = 5.0  # seconds until a training that was stopped by others is started again
_ASKED = (TRY_AGAIN, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class Work:
    """A trial in this process's care, from the start of its training to its end."""

    def __init__(self, job: Tuning, claimed: Claimed, slot: int, slots: int):
        """Starts it. Args: what is tuned, the trial, and the rest as of `Training`."""
        self.claimed, self._job, self._place = claimed, job, (job.ranks, slot, slots)
        self._training: Training | None = None
        self._experiment = job.experiment
        self._pruned, self._again = False, 0.0
        try:
            self._experiment = without_test(job.experiment_of(claimed.changes)[0])
        except UserError as error:  # two changes that do not go together
            self._end(TrialState.FAIL, error=f"{error.where}: {error.what}")
            return
        self._start()

    def look(self) -> bool:
        """Whether it has ended. Tells Optuna of validations, and ends a training that is behind others."""
        if self._training is None:
            if self._again and time.monotonic() > self._again:
                self._start()
            return not self._again
        status = self._training.status()
        document = self._training.validated()
        if document is not None:
            self._report(document)
        if self.claimed.lost:
            self.leave()
            return True
        if status == DONE:
            self._end_whole()
        elif self._pruned:
            self._training.stop()
            self._end(TrialState.PRUNED)
        elif status in _ASKED:  # by whoever stops everything, or another process has its folder
            self._training, self._again = None, time.monotonic() + _AGAIN
            return False
        elif status is not None:
            # A training that came as far as to make steps says something of its settings: the worst there is.
            state = TrialState.PRUNED if self._training.has_begun() else TrialState.FAIL
            self._end(state, error=self._training.said_last())
        else:
            return False
        return True

    def leave(self) -> None:
        """Stops the training, which goes on when the command is run again."""
        if self._training is not None:
            self._training.stop()
        self.claimed.lease.close()

    def _start(self) -> None:
        self._again = 0.0
        text = yaml.safe_dump(plain(self._experiment), sort_keys=False, width=120, allow_unicode=True)
        self._training = Training(self.claimed.folder, text, self._job.out / COUNTS, *self._place)

    def _report(self, document: Mapping[str, Any]) -> None:
        trial = self.claimed.trial
        known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        # Of the best checkpoint so far, by which the whole trial is judged: one that gets worse later has that one still.
        for epochs, step in best_so_far(self._experiment, document):
            at = round(epochs * TENTHS)
            value = self._job.objective.value(self._experiment, document, step)
            if self._pruned or value is None or at in known:
                continue
            trial.report(value, at)
            # Asked of the first one too, for what others are compared with; but what the user has is always measured whole.
            self._pruned = trial.should_prune() and trial.number > 0

    def _end_whole(self) -> None:
        assert self._training is not None
        run = self._training.run
        document = read_json(run / VALIDATION, Validation, {})
        told = read_json(run / BEST, Best, {})
        value = self._job.objective.value(self._experiment, document, told["step"]) if told else None
        if value is not None:
            self._end(TrialState.COMPLETE, value)
            return
        what = f"no validation row of '{self._job.asked or 'all of validation'}' has a number"
        self._end(TrialState.PRUNED, error=what)
        known = self.claimed.trial.study.get_trials(deepcopy=False)
        if not any(one.value is not None or one.intermediate_values for one in known):
            raise UserError("--objective", what, "Choose another slice, task or domain, and tune into another folder.")

    def _end(self, state: TrialState, value: float | None = None, error: str = "") -> None:
        trial = self.claimed.trial
        if error:
            trial.set_user_attr(ERROR, error)
        trial.study.tell(trial, value, state)
        self._training, self._again = None, 0.0
        self.claimed.lease.close()
