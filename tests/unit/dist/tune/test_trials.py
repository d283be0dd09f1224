"""Who is at work on which trial, and what it tries."""

from types import SimpleNamespace

import pytest
from optuna.trial import TrialState

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.tune.space import Setting
from foundrank.dist.tune.trials import Trials
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict

SPACE = {
    "training.learning_rate": Setting(log=(1e-4, 1e-1)),
    "training.batch_size": Setting(choice=(64, 1024)),
    "training.epochs": Setting(linear=(1, 5)),
    "training.max_steps": Setting(linear=(5, 9)),
}


@pytest.fixture
def trials(tmp_path):
    """What makes `Trials` of one folder, as each process has its own."""
    experiment = load_experiment(experiment_dict(), ["training.batch_size=1024"], kinds=KINDS)

    def make(most=3, seed=1, folder="out"):
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trials(SimpleNamespace(out=tmp_path / folder, space=SPACE, experiment=experiment), seed, most)

    return make


def test_the_first_trial_is_the_experiment_as_it_is(trials):
    claimed = trials().claim()
    assert (claimed.number, claimed.changes) == (0, {})
    assert claimed.trial.params == {
        "training.learning_rate": 0.002,
        "training.batch_size": "1024",
        "training.epochs": 2,
    }


def test_no_two_processes_are_at_work_on_one_and_no_more_than_asked_for_are_begun(trials):
    one, other = trials(), trials()
    claimed = [one.claim(), other.claim(), one.claim()]
    assert [each.number for each in claimed] == [0, 1, 2]
    assert one.claim() is None
    assert other.claim() is None
    assert one.at_work() == 3
    claimed[1].trial.study.tell(claimed[1].trial, 0.5)
    claimed[1].lease.close()
    assert other.claim() is None  # it is done
    assert other.best().number == 1


def test_a_trial_that_was_left_is_taken_with_its_settings(trials):
    first = trials()
    first.claim()
    left = first.claim()
    left.lease.close()  # as when its process dies
    taken = trials().claim()
    assert (taken.number, taken.changes) == (left.number, left.changes)
    assert set(taken.changes) == set(SPACE)


def test_a_trial_that_died_before_it_knew_its_settings_gets_them(trials):
    first = trials()
    first.claim()
    asked = first.study.ask()
    taken = trials().claim()
    assert taken.number == asked.number
    assert set(taken.changes) == set(SPACE)


def test_the_same_seed_tries_the_same_whoever_goes_on(trials):
    def tried(folder, restarted):
        found, at = [], trials(most=6, folder=folder)
        for _ in range(6):
            if restarted:
                at = trials(most=6, folder=folder)
            claimed = at.claim()
            found.append(claimed.changes)
            claimed.trial.study.tell(claimed.trial, claimed.trial.params["training.epochs"])
            claimed.lease.close()
        return found

    once = tried("a", restarted=False)
    assert once == tried("b", restarted=True)
    rates = [changes["training.learning_rate"] for changes in once[1:]]
    assert len(set(rates)) == len(rates)
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert {type(changes["training.epochs"]) for changes in once[1:]} == {int}
    assert {changes["training.batch_size"] for changes in once[1:]} <= {64, 1024}


def test_one_that_falls_behind_is_given_up_and_counts(trials):
    at = trials(most=2)
    good, bad = at.claim(), at.claim()
    good.trial.report(0.8, 6)
    assert not good.trial.should_prune()
    bad.trial.report(0.5, 3)
    assert not bad.trial.should_prune()  # too early to say
    bad.trial.report(0.5, 6)
    assert bad.trial.should_prune()
    at.study.tell(bad.trial, state=TrialState.PRUNED)
    assert at.claim() is None


def test_a_line_that_was_half_written_is_cut_off(trials, tmp_path):
    first = trials()
    claimed = first.claim()
    claimed.lease.close()
    with (tmp_path / "out/trials.log").open("a") as file:
        file.write('{"op_code":4,"worker')
    taken = trials().claim()
    assert taken.number == claimed.number
    taken.trial.study.tell(taken.trial, 0.5)
    assert trials().best().value == 0.5


def test_a_damaged_file_is_told(trials, tmp_path):
    trials().claim()
    path = tmp_path / "out/trials.log"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + '{"op_code":4,"worker' + "".join(lines[1:]))
    with pytest.raises(UserError, match=r"trials\.log: is damaged.*another folder"):
        trials()
