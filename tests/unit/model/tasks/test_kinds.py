"""What holds for every kind of task whose labels are numbers, and what each of them says of its own."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foundrank.data.arrow.moments import mean_deviation, moments_of
from foundrank.data.config.sections.task import Scale
from foundrank.model.tasks import TASKS
from foundrank.model.tasks.number_task import NumberTask
from foundrank.model.tasks.task_columns import TaskColumns

RANDOM = np.random.default_rng(5)
ROWS = 4000
SPEND = np.exp(RANDOM.normal(4, 1.2, ROWS)) * (RANDOM.random(ROWS) < 0.3)
LABELS: dict[str, np.ndarray] = {
    "regression": RANDOM.gamma(2.0, 300.0, ROWS) - 100,
    "ordinal": RANDOM.choice([1.0, 2.0, 3.0, 4.0, 5.0], ROWS, p=[0.1, 0.05, 0.15, 0.3, 0.4]),
    "value": SPEND,
    "count": RANDOM.poisson(7.0, ROWS).astype(np.float64),
}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "regression": [{}, {"loss": "huber", "delta": 3.0}, {"loss": "quantile", "quantile": 0.8}, {"transform": "log1p"}],
    "ordinal": [{}, {"levels": [1, 2, 3, 4, 5, 9]}],
}
KINDS = [kind for kind, of in TASKS.items() if issubclass(of, NumberTask)]
EVERY = [(kind, settings) for kind in KINDS for settings in SETTINGS.get(kind, [{}])]


def made(kind: str, **settings: Any) -> NumberTask:
    task = TASKS[kind].model_validate({"kind": kind, "label": "y", **settings})
    assert isinstance(task, NumberTask)
    return task


def labels_of(kind: str, settings: dict[str, Any]) -> np.ndarray:
    return np.abs(LABELS[kind]) if settings.get("transform") == "log1p" else LABELS[kind]


def scale_of(task: NumberTask, labels: np.ndarray) -> Scale:
    scaled = task.scaled(labels)
    return Scale() if scaled is None else Scale(*mean_deviation(moments_of(scaled)))


def logits_of(task: NumberTask, rows: int, value: float = 0.0) -> torch.Tensor:
    return torch.full((rows, 1, len(task.outputs)) if len(task.outputs) > 1 else (rows, 1), value)


def fitted(task: NumberTask, labels: np.ndarray) -> torch.Tensor:
    """The logits, the same in all rows, that make the loss of labels least."""
    y, scale = torch.tensor(labels, dtype=torch.float32)[:, None], scale_of(task, labels)
    free = logits_of(task, 1).requires_grad_()
    optimizer = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.losses(free.expand(len(y), *free.shape[1:]), y, scale).mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(step)
    return free.detach()


def best_constant(task: NumberTask, labels: np.ndarray) -> float:
    """What a score is that knows the labels' distribution and nothing of their rows."""
    settings = task.model_dump()
    if settings.get("loss") == "quantile":
        return float(np.quantile(labels, settings["quantile"]))
    if settings.get("transform") == "log1p":
        return float(np.expm1(np.log1p(labels).mean()))
    if settings["kind"] == "value":
        logarithms = np.log(labels[labels > 0])
        return float((labels > 0).mean() * np.exp(logarithms.mean() + logarithms.var() / 2))
    return float(labels.mean())


@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_the_best_constant_is_the_mean_of_the_labels_or_what_the_settings_say(kind, settings):
    task, labels = made(kind, **settings), labels_of(kind, settings)
    score = task.scores(fitted(task, labels), scale_of(task, labels)).item()
    if settings.get("loss") == "huber":
        assert np.median(labels) < score < labels.mean()
    else:
        assert score == pytest.approx(best_constant(task, labels), rel=0.03 if kind == "value" else 5e-3)


@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_a_model_begins_at_a_typical_label(kind, settings):
    """With logits of 0, whatever the unit is."""
    task, labels = made(kind, **settings), labels_of(kind, settings)
    score = task.scores(logits_of(task, 1), scale_of(task, labels)).item()
    assert abs(score - labels.mean()) < labels.std()


@pytest.mark.parametrize("factor", [1e-4, 1e5])
@pytest.mark.parametrize("kind", ["regression", "value"])
def test_the_unit_of_a_label_changes_the_unit_of_its_score_and_no_loss(kind, factor):
    task, labels = made(kind), LABELS[kind]
    logits = torch.randn(ROWS, 1, 3) if kind == "value" else torch.randn(ROWS, 1)
    y, other = (torch.tensor(by * labels, dtype=torch.float32)[:, None] for by in (1, factor))
    one, there = scale_of(task, labels), scale_of(task, factor * labels)
    torch.testing.assert_close(task.losses(logits, other, there), task.losses(logits, y, one), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        task.scores(logits, there), factor * task.scores(logits, one), rtol=1e-3, atol=1e-4 * factor
    )


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4, 50.0, -50.0, 1e-30])
@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_extreme_logits_give_finite_losses_gradients_and_scores(kind, settings, value):
    task, labels = made(kind, **settings), labels_of(kind, settings)
    y = torch.tensor([0.0, labels.min(), labels.max()], dtype=torch.float32)[:, None]
    logits = logits_of(task, 3, value).requires_grad_()
    found = task.losses(logits, y, scale_of(task, labels))
    found.sum().backward()
    assert found.shape == y.shape
    assert found.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    scores = task.scores(logits.detach(), scale_of(task, labels))
    assert scores.shape == y.shape
    assert scores.isfinite().all()


@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_labels_that_are_all_the_same_or_none_at_all_have_a_scale(kind, settings):
    task = made(kind, **settings)
    for labels in (np.full(5, 3.0), np.zeros(4), np.zeros(0)):
        scale = scale_of(task, labels)
        y = torch.tensor(labels, dtype=torch.float32)[:, None]
        logits = logits_of(task, len(y))
        assert task.losses(logits, y, scale).isfinite().all()
        assert task.scores(logits, scale).isfinite().all()
        assert task.losses(logits, y, scale).shape == task.scores(logits, scale).shape == y.shape


@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_an_output_that_is_no_number_gives_no_score(kind, settings):
    task = made(kind, **settings)
    columns, wide = TaskColumns([task, task]), len(task.outputs)
    for bad in (math.nan, math.inf, -math.inf):
        for at in range(wide):
            logits = torch.zeros(2, 2 * wide)
            logits[1, wide + at] = bad
            assert columns.scores(logits).isnan().tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize(("kind", "settings"), EVERY)
def test_metrics_are_those_of_the_measures_and_json(kind, settings):
    task, labels = made(kind, **settings), labels_of(kind, settings)[:300].astype(np.float32)
    scores = (labels + RANDOM.normal(0, labels.std(), 300)).clip(0.1).astype(np.float32)
    lists = np.arange(300, dtype=np.uint64) // 7
    measures = task.measures
    named = {measures.headline.key, *(each.key for each in measures.others)}
    named |= {measures.support.key} - {"rows"}
    for part, weights in ((slice(None), None), (slice(None), np.ones(300)), (slice(0, 0), None)):
        found = task.metrics(labels[part], scores[part], lists=lists[part], weights=weights)
        assert set(found) == named | {"deciles"}
        json.dumps(found, allow_nan=False)
    found = task.metrics(labels, scores, lists=lists)
    assert all(value is not None for key, value in found.items() if key != "ndcg@10" or labels.min() >= 0)
    assert found[measures.headline.key] == pytest.approx(task.headline(labels, scores))
    chosen = task.validation({"rows": 300, **found})
    assert chosen is not None
    assert -1 <= chosen[0] <= 1
    assert task.validation({"rows": 300, **dict.fromkeys(found)}) is None
    far_off = dict.fromkeys(found, -7.0) | {"rows": 300, "positives": 9}
    assert task.validation(far_off) == (-1.0, math.sqrt(far_off[measures.support.key]))


GOOD: dict[str, list[Any]] = {
    "regression": [-3.5, 0, 1e9, None],
    "ordinal": [1, 5, 3, None],
    "value": [0, 0.01, 1e9, None],
    "count": [0, 1, 1e9, None],
}
BAD: list[tuple[str, dict[str, Any], float]] = [
    ("regression", {}, math.inf),
    ("regression", {}, 1e31),
    ("regression", {"transform": "log1p"}, -1.0),
    ("ordinal", {}, 6),
    ("ordinal", {}, 2.5),
    ("ordinal", {"levels": [1, 3]}, 2),
    ("value", {}, -0.01),
    ("value", {}, math.inf),
    ("count", {}, -1),
    ("count", {}, 0.5),
]


@pytest.mark.parametrize(("kind", "settings", "label"), BAD)
def test_a_bad_label_is_found_beside_good_ones(kind, settings, label):
    (need,) = made(kind, **settings).columns("tasks.y")
    good = [value for value in GOOD[kind] if settings == {} or value is None or value in settings.get("levels", [0])]
    for values in (pa.array(good, pa.float64()), pa.array([*good, math.nan]), pa.nulls(3), pa.array([], pa.int64())):
        assert need.bad is not None
        assert need.bad.find(values) is None
    assert need.bad.find(pa.array([*good, label], pa.float64())).tolist() == [*[False] * len(good), True]
    assert need.bad.remedy
    assert need.bad.between is None or not need.bad.between[0] <= label <= need.bad.between[1] or label % 1


def test_an_expectation_is_a_column_that_is_checked():
    task = made("count", expected="truth")
    _, need = task.columns("tasks.y")
    assert (task.oracle, need.name, need.field) == ("truth", "truth", "tasks.y.expected")
    assert need.bad is not None
    assert need.bad.find(pa.array([1.0, None])) is None
    assert need.bad.find(pa.array([1.0, math.inf])).tolist() == [False, True]


@given(st.integers(0, 2**32 - 1), st.integers(2, 7))
def test_cumulative_logits_fall_and_levels_have_the_likelihood_they_should(seed, count):
    task = made("ordinal", levels=[float(level) for level in range(count)])
    logits = torch.randn(4, 1, max(count - 1, 1), generator=torch.Generator().manual_seed(seed)) * 3
    logits = logits[..., 0] if count == 2 else logits
    labels = torch.arange(float(count)).repeat(4, 1).T.reshape(count, 4, 1)
    likelihoods = torch.stack([torch.exp(-task.losses(logits, y, Scale())) for y in labels])
    torch.testing.assert_close(likelihoods.sum(0), torch.ones(4, 1))
    expected = (likelihoods * labels).sum(0)
    torch.testing.assert_close(task.scores(logits, Scale()), expected, rtol=1e-4, atol=1e-5)


def test_two_levels_are_a_binary_task():
    task, logits = made("ordinal", levels=[0, 1]), torch.tensor([[-2.0], [3.0]])
    labels = torch.tensor([[1.0], [0.0]])
    wanted = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    torch.testing.assert_close(task.losses(logits, labels, Scale()), wanted)
    torch.testing.assert_close(task.scores(logits, Scale()), torch.sigmoid(logits))


@pytest.mark.parametrize("levels", [[1], [2, 1], [1, 1, 2], [1.0, 1.0 + 1e-12], []])
def test_levels_rise(levels):
    with pytest.raises(ValidationError):
        made("ordinal", levels=levels)


def test_which_labels_are_worth_finding():
    labels = np.array([0, 1, 2, 3, 4, 5], np.float32)
    assert made("ordinal").taken(labels).tolist() == [False] * 4 + [True] * 2
    assert made("ordinal", levels=[0, 1]).taken(labels[:2]).tolist() == [False, True]
    assert made("regression").taken(np.array([-1.0, 0.0, 0.1])).tolist() == [False, False, True]
    assert made("value").taken(labels).tolist() == made("count").taken(labels).tolist() == [False] + [True] * 5


def test_huber_is_the_squared_error_of_small_errors():
    logits, labels = torch.tensor([[0.2], [-0.4], [5.0]]), torch.zeros(3, 1)
    found = made("regression", loss="huber", delta=0.5).losses(logits, labels, Scale())
    torch.testing.assert_close(found, torch.tensor([[0.04], [0.16], [2 * 0.5 * (5.0 - 0.25)]]))


@pytest.mark.parametrize("label", [3.0, 1e9])
def test_the_loss_of_a_count_far_above_the_mean_is_least_at_the_count(label):
    task, scale = TASKS["count"](label="n"), Scale(1e-4, 1.0)
    logits = torch.linspace(-60, 80, 1401, dtype=torch.float64)[:, None]
    losses = task.losses(logits, torch.full_like(logits, label), scale)[:, 0]
    best = math.log(label / scale.mean)
    assert abs(logits[losses.argmin(), 0] - best) <= 0.1
    after = losses[logits[:, 0] > best + 0.1]
    assert (after.diff() >= 0).all()
    assert torch.isfinite(losses).all()


def test_a_label_that_is_minus_one_once_it_is_kept_is_bad_for_its_logarithm():
    need, *_ = TASKS["regression"](label="y", transform="log1p").columns("y")
    assert need.bad is not None
    bad = need.bad.find(pa.array([-0.99999999999, -0.999, None]))
    assert bad is not None
    assert bad.tolist() == [True, False, False]


def test_a_quantile_is_compared_with_the_true_quantile():
    assert "true quantile" in TASKS["regression"](label="y", loss="quantile").measures.of_oracle
    assert "true expectation" in TASKS["regression"](label="y").measures.of_oracle
