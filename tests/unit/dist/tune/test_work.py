"""How a trial ends, and what is told of it on the way."""

import json
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.run.kept_checkpoints import remember_best
from foundrank.dist.tune.objective import read_objective
from foundrank.dist.tune.space import Setting
from foundrank.dist.tune.trials import Trials
from foundrank.dist.tune.work import Work
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict

SPACE = {"training.learning_rate": Setting(log=(1e-4, 1e-1))}


class Ended:
    """A training that has validated so often and ended, or not."""

    def __init__(self, run, values, status):
        self.run, self._values, self._status = run, values, status
        run.mkdir(parents=True)
        rows = []
        for step, (epoch, auc) in enumerate(values.items(), 1):
            row = {"domain": "find", "task": "click", "slice": "all", "rows": 100, "positives": 10, "auc": auc}
            rows.append(row | {"step": step, "epoch": epoch})
            remember_best(run, {"step": step, "validation": auc})
        self.document = {"rows": rows, "next_item": []}
        (run / "validation.json").write_text(json.dumps(self.document))

    def status(self):
        return self._status

    def validated(self):
        return self.document

    def stop(self):
        self._status = 0


@pytest.fixture
def works(tmp_path):
    """What makes `Work` of the next trial, with a training that is as given."""
    experiment = load_experiment(experiment_dict(), kinds=KINDS)
    job = SimpleNamespace(out=tmp_path, space=SPACE, experiment=experiment, asked="click", ranks=1)
    job.objective = read_objective("click", experiment)
    trials = Trials(job, 1, 9)

    def make(values, status=0):
        work = Work.__new__(Work)
        claimed = trials.claim()
        work.claimed, work._job, work._place = claimed, job, (1, 0, 1)
        work._experiment, work._pruned, work._again = experiment, False, 0.0
        work._training = Ended(claimed.folder / "run", values, status)
        return work

    def ended(values, status=0):
        work = make(values, status)
        work.look()
        return trials.study.get_trials()[work.claimed.number]

    return ended


def test_a_trial_that_gets_worse_later_is_judged_by_its_best_checkpoint(works):
    works({0.6: 0.7, 1.0: 0.75})
    found = works({0.6: 0.8, 1.0: 0.7}, status=None)
    assert found.state == TrialState.RUNNING
    assert found.intermediate_values == pytest.approx({6: 0.8, 10: 0.8})


def test_a_training_that_ended_is_never_given_up(works):
    works({0.6: 0.8, 1.0: 0.8})
    found = works({0.6: 0.7, 1.0: 0.75})
    assert (found.state, found.value) == (TrialState.COMPLETE, pytest.approx(0.75))


def test_one_that_is_behind_is_given_up_but_the_first_never(works):
    assert works({0.6: 0.7}, status=None).state == TrialState.RUNNING
    assert works({0.6: 0.8}, status=None).state == TrialState.RUNNING
    assert works({0.6: 0.6}, status=None).state == TrialState.PRUNED


def test_the_first_goes_on_where_others_are_ahead(works, tmp_path):
    experiment = load_experiment(experiment_dict(), kinds=KINDS)
    trials = Trials(SimpleNamespace(out=tmp_path, space=SPACE, experiment=experiment), 1, 9)
    first, other = trials.claim(), trials.claim()
    other.trial.report(0.8, 6)
    assert not other.trial.should_prune()
    first.lease.close()
    assert works({0.6: 0.6}, status=None).state == TrialState.RUNNING


def test_the_worst_validation_there_is_has_a_checkpoint(works):
    assert works({0.6: -1.0, 1.0: -1.0}).value == pytest.approx(-1.0)


def test_one_without_a_number_does_not_end_the_others(works):
    works({1.0: 0.8})
    found = works({})
    assert found.state == TrialState.PRUNED
    assert "no validation row" in found.user_attrs["error"]


def test_an_objective_of_which_nothing_has_a_number_is_told(works):
    with pytest.raises(UserError, match="no validation row of 'click' has a number"):
        works({})
