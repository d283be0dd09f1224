"""What trials are judged by."""

import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.evaluate.evaluate import validation_score
from foundrank.dist.tune.objective import check_validated, read_objective, steps
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


@pytest.fixture
def experiment():
    return load_experiment(experiment_dict(), kinds=KINDS)


def row(domain, task, auc, positives=10, part="all", step=4):
    numbers = {"rows": 100, "positives": positives, "auc": auc, "step": step, "epoch": step / 8}
    return {"domain": domain, "task": task, "slice": part, **numbers}


ROWS = [
    row("find", "click", 0.7), row("find", "buy", 0.8, positives=40), row("home", "click", 0.6),
    row("find", "click", 0.5, part="cold_items"), row("home", "click", None, part="cold_items"),
    row("find", "click", 0.9, step=8),
]  # fmt: skip


def value(text, experiment, step=4, rows=ROWS):
    return read_objective(text, experiment).value(experiment, {"rows": rows, "next_item": []}, step)


def test_by_default_it_is_what_checkpoints_are_chosen_by(experiment):
    class Layout:
        tasks = ("click", "buy")
        task_kinds = (experiment.domains["find"].tasks["click"], experiment.domains["find"].tasks["buy"])

    wanted = validation_score(Layout, [one for one in ROWS if one["step"] == 4])
    assert value("", experiment) == pytest.approx(wanted)
    assert value("", experiment, step=8) == pytest.approx(0.9)


def test_a_slice_a_task_a_domain(experiment):
    assert value("cold_items", experiment) == pytest.approx(0.5)
    assert value("buy", experiment) == pytest.approx(0.8)
    assert value("home", experiment) == pytest.approx(0.6)
    assert value("find/click/cold_items", experiment) == pytest.approx(0.5)
    assert value("find / click", experiment) == pytest.approx(0.7)
    assert value("home/cold_items", experiment) is None
    assert value("users_seen_1_to_4", experiment) is None  # which is known, and has no row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cold_item", "no slice, task or domain.*cold_items"),
        ("cold_items/warm_items", "names 2 slices"),
        ("next_item", "no slice, task or domain"),
    ],
)
def test_what_is_none_is_told(experiment, text, said):
    with pytest.raises(UserError, match=said):
        read_objective(text, experiment)


def test_a_domain_that_is_not_validated_is_told():
    raw = experiment_dict()
    raw["domains"]["find"]["events"]["validation"] = "validation/*.parquet"
    raw["domains"]["home"]["events"].pop("validation", None)
    experiment = load_experiment(raw, kinds=KINDS)
    for asked in ("", "find/click", "cold_items"):
        check_validated(read_objective(asked, experiment), asked, experiment)
    with pytest.raises(UserError, match="'home/cold_items' is of no domain with"):
        check_validated(read_objective("home/cold_items", experiment), "home/cold_items", experiment)


def test_the_next_item_of_a_model_without_tasks():
    raw = experiment_dict()
    for domain in raw["domains"].values():
        domain["tasks"] = {}
    raw["model"] = raw.get("model", {}) | {"history": "sasrec", "next_item": {}, "width": 16}
    experiment = load_experiment(raw, ["model.aspects=[id]"], kinds=KINDS)
    rows = [{"domain": "find", "slice": "all", "rows": 30, "ndcg@10": 0.2, "step": 3, "epoch": 1.0}]
    rows += [{"domain": "home", "slice": "all", "rows": 10, "ndcg@10": 0.6, "step": 3, "epoch": 1.0}]
    assert read_objective("", experiment).value(experiment, {"next_item": rows}, 3) == pytest.approx(0.3)


def test_validations_in_order():
    assert steps({"rows": ROWS}) == {4: 0.5, 8: 1.0}
