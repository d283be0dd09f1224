"""Metrics that must be reached: names are checked before there is anything to measure, and what falls short is named."""

import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.evaluate.gate import fallen_short, read_gates
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


@pytest.fixture(scope="module")
def experiment():
    raw = experiment_dict()
    raw["model"] = {"history": {"encoder": "sasrec", "layers": 1}, "next_item": {"negatives": 4}}
    raw["domains"]["home"]["events"]["test"] = "home/*.parquet"
    return load_experiment(raw, kinds=KINDS)


def row(domain: str, slice_: str = "all", task: str = "click", **metrics: float | None) -> dict:
    return {"domain": domain, "task": task, "slice": slice_, **metrics}


def test_every_domain_that_is_measured_must_reach_it(experiment):
    gates = read_gates(["click.auc=0.7", "find.buy.gauc=0.5", "next_item.hr@10=0.1"], experiment, "test")
    assert [gate.domains for gate in gates] == [
        ("find", "home"),
        ("find",),
        ("find", "home"),
    ]  # `new` has no test split
    good = [row("find", auc=0.7), row("home", auc=0.9), row("find", task="buy", gauc=0.5), row("home", "cold", auc=0.1)]
    found = [{"domain": domain, "slice": "all", "hr@10": 0.1} for domain in ("find", "home")]
    assert fallen_short(gates, {"rows": good, "next_item": found}) == []
    bad = [row("find", auc=0.6999), row("home", auc=None)]
    assert fallen_short(gates, {"rows": bad, "next_item": found[:1]}) == [
        "--fail-below click.auc=0.7: find.click.auc is 0.6999",
        "--fail-below click.auc=0.7: home.click.auc could not be computed",
        "--fail-below find.buy.gauc=0.5: find.buy.gauc could not be computed",
        "--fail-below next_item.hr@10=0.1: home.next_item.hr@10 could not be computed",
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("click.auc", "is not TASK.METRIC=VALUE"),
        ("auc=0.7", "is not TASK.METRIC=VALUE"),
        ("click.auc=high", "is not TASK.METRIC=VALUE"),
        ("click.auc=nan", "is not TASK.METRIC=VALUE"),
        ("clik.auc=0.7", "Did you mean 'click'"),
        ("new.click.auc=0.7", r"'new\.click' is no task that the test split measures"),
        ("click.acu=0.7", "Did you mean 'auc'"),
        ("click.logloss=0.7", "less of logloss is better"),
    ],
)
def test_what_cannot_be_measured_is_refused(experiment, asked, told):
    with pytest.raises(UserError, match=told):
        read_gates([asked], experiment, "test")
