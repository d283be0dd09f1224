"""From numbers of runs to differences between arms: signs, means and verdicts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foundrank.dist.compare.arms import Arm
from foundrank.dist.compare.differences import MEAN, Surface, differences
from foundrank.dist.compare.resampling import drawn_users
from foundrank.dist.compare.statistics import LabelledRows, measured, numbers
from foundrank.model.tasks.binary import Binary

CLICK = Binary(label="click")
USERS = 200


def arm(name: str, *seeds: int, models: int = 1) -> Arm:
    runs: Any = tuple(SimpleNamespace(experiment=SimpleNamespace(seed=seed, seeds=models)) for seed in seeds)
    return Arm(name, runs)


@pytest.fixture(scope="module")
def found() -> dict[tuple, dict]:
    """A base of four seeds, a better arm of the same seeds and a run of another that says the opposite, in two domains."""
    random = np.random.default_rng(0)
    surfaces = []
    for domain in ("shop", "feed"):
        labels, of_row = random.integers(2, size=2000), random.integers(USERS, size=2000)
        rows = LabelledRows(CLICK, labels, of_row, USERS, of_row)
        scores = [
            1 / (1 + np.exp(-strength * (labels - 0.5) - random.normal(size=2000)))
            for strength in (1, 1, 1, 1, 3, 3, 3, 3, -1)
        ]
        surface = Surface(domain, "click")
        surface.add("all", 2000, np.unique(of_row), [numbers(rows, of) for of in scores])
        for weights in drawn_users(USERS, 200, 0):
            surface.draw(weights)
        surfaces.append(surface)
    arms = [arm("base", 1, 2, 3, 4), arm("better", 1, 2, 3, 4), arm("worse", 5)]
    lines = differences(surfaces, {"click": measured(CLICK)}, arms, seed=0)
    return {(line["arm"], line["domain"], line["metric"]): line for line in lines}


def test_each_arm_is_compared_with_the_first(found):
    for metric in ("auc", "logloss"):  # of which more is better, and less
        for domain in ("shop", "feed", MEAN):
            assert found["better", domain, metric]["verdict"] == "better"
            assert found["worse", domain, metric]["verdict"] == "worse"
    line = found["better", "shop", "auc"]
    assert 0 < line["low"] < line["difference"] < line["high"]
    assert found["better", "shop", "logloss"]["difference"] < 0
    assert line["paired"]
    assert not found["worse", "shop", "auc"]["paired"]


def test_the_mean_is_over_domains(found):
    for side in ("first", "other", "difference"):
        parts = [found["better", domain, "gauc"][side] for domain in ("shop", "feed")]
        assert found["better", MEAN, "gauc"][side] == pytest.approx(np.mean(parts))
    assert found["better", MEAN, "auc"]["rows"] == 4000
    assert "ndcg@10" not in {metric for _, _, metric in found}  # there are no lists


def test_runs_of_several_models_go_with_runs_of_as_many():
    assert arm("a", 1, 4, models=3).goes_with(arm("b", 1, 4, models=3))
    assert not arm("a", 1, 4, models=3).goes_with(arm("b", 1, 4))
    assert not arm("a", 1, 4).goes_with(arm("b", 1, 5))
