"""What a training says of labels before it begins."""

import pytest

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.dist.counting.labels import check_labels
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world


def counted(tmp_path, **nulls):
    """The experiment and its statistics, with the labels of some tasks null in some domains."""
    events = random_events(1, {"find": 20, "home": 20, "new": 20})
    for domain, labels in nulls.items():
        for row in events[domain]:
            row.update(dict.fromkeys(labels))
    experiment = write_world(tmp_path, events)
    return experiment, count(experiment, train_files(experiment))


def test_a_domain_without_a_label_of_a_task_is_told(tmp_path, capsys):
    check_labels(*counted(tmp_path, home=["click"]))
    assert capsys.readouterr().out.startswith("domains.home.tasks.click: column 'click' holds no label")


def test_a_task_without_a_label_in_any_domain_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"domains.find.tasks.buy.*holds none in the training events of any"):
        check_labels(*counted(tmp_path, find=["buy"]))


def test_what_a_pretrained_run_has_learnt_needs_no_labels_but_something_does(tmp_path):
    experiment, statistics = counted(tmp_path / "some", find=["buy"])
    check_labels(experiment, statistics, experiment)
    none = {"find": ["buy", "click"], "home": ["click"], "new": ["like", "click"]}
    experiment, statistics = counted(tmp_path / "none", **none)
    with pytest.raises(UserError, match=r"domains.find.tasks.click"):
        check_labels(experiment, statistics, experiment)


def test_clicks_without_an_outcome_are_told_and_refused_where_there_is_no_other(tmp_path, capsys):
    def chain(folder, known: int):
        events = random_events(1, {"find": 20, "home": 20, "new": 20})
        for at, row in enumerate(events["find"]):
            row.update(click=at % 2 == 1, buy=False if at < known else None)
        write_world(folder, events)
        experiment = load_experiment(folder, ["domains.find.tasks.buy.given=click"], kinds=KINDS)
        return experiment, count(experiment, train_files(experiment))

    check_labels(*chain(tmp_path / "all", known=20))
    assert "without click" not in capsys.readouterr().out
    check_labels(*chain(tmp_path / "some", known=10))
    assert "has no label in 5 of 10 rows with click" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=r"domains.find.tasks.buy.*no label in any of the 10 rows with click"):
        check_labels(*chain(tmp_path / "none", known=0))


@pytest.mark.parametrize(("bound", "told"), [(100, "no label of"), (-1, "every label of"), (4, "")])
def test_a_condition_that_makes_all_labels_the_same_is_told(tmp_path, capsys, bound, told):
    experiment, _ = counted(tmp_path)
    raw = plain(experiment)
    raw["domains"]["new"]["tasks"]["like"]["label"] = {"column": "clicks", "at_least": bound}
    experiment = load_experiment(raw, kinds=KINDS)
    check_labels(experiment, count(experiment, train_files(experiment)))
    wanted = f"domains.new.tasks.like.label: {told} the training events is 1; look at the condition on 'clicks'"
    out = capsys.readouterr().out
    assert out.startswith(wanted) if told else not out
