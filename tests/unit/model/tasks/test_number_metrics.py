import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    d2_pinball_score,
    mean_absolute_error,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_squared_error,
    ndcg_score,
    r2_score,
)

from foundrank.model.tasks import number_metrics as of_numbers


@st.composite
def predictions(draw, least: int = -3):
    """Few distinct labels, scores, groups and weights, so that ties and empty parts are common."""
    size = draw(st.integers(1, 40))
    some = {"min_size": size, "max_size": size}
    labels = draw(st.lists(st.integers(least, 6), **some))
    scores = draw(
        st.lists(st.sampled_from([-1.5, 0.0, 0.25, 1.0, 4.0, 20.0] if least < 0 else [0.0, 0.5, 1.0, 9.0]), **some)
    )
    groups = draw(st.lists(st.sampled_from([0, 3, 2**64 - 1]), **some))
    weights = draw(st.lists(st.integers(0, 3), **some))
    return (
        np.array(labels, np.float64),
        np.array(scores, np.float64),
        np.array(groups, np.uint64),
        np.array(weights, np.float64),
    )


def spearman_by_pearson(labels, scores):
    def ranks(values):
        return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

    x, y = ranks(labels), ranks(scores)
    return np.corrcoef(x, y)[0, 1] if x.std() and y.std() else math.nan


def gini_by_hand(labels, by):
    """Mean over the orders of ties of twice the area between the curve of what the best rows hold and the diagonal."""
    spread = np.array([labels[by == value].mean() for value in by], np.float64)
    held = np.concatenate([[0], np.cumsum(spread[np.argsort(-by, kind="stable")])]) / labels.sum()
    return 2 * np.mean((held[1:] + held[:-1]) / 2) - 1


@given(predictions())
def test_errors_are_those_of_scikit_learn(data):
    labels, scores, _, _ = data
    same = pytest.approx
    assert of_numbers.rmse(labels, scores) == same(math.sqrt(mean_squared_error(labels, scores)))
    assert of_numbers.mae(labels, scores) == same(mean_absolute_error(labels, scores))
    assert of_numbers.pinball(labels, scores, 0.9) == same(mean_pinball_loss(labels, scores, alpha=0.9))
    assert of_numbers.coverage(labels, scores) == same(np.mean(labels <= scores))
    if len(set(labels.tolist())) > 1:
        assert of_numbers.r_squared(labels, scores) == same(r2_score(labels, scores))
        # scikit-learn takes its quantile between two labels; at this one of so many it makes no great difference
        if len(labels) % 2:
            assert of_numbers.quantile_skill(labels, scores, 0.5) == same(d2_pinball_score(labels, scores, alpha=0.5))
    else:
        assert math.isnan(of_numbers.r_squared(labels, scores))
        assert math.isnan(of_numbers.quantile_skill(labels, scores, 0.5))


@given(predictions())
def test_spearman_is_the_correlation_of_mean_ranks(data):
    labels, scores, _, _ = data
    assert of_numbers.spearman(labels, scores) == pytest.approx(spearman_by_pearson(labels, scores), nan_ok=True)


@given(predictions(least=0))
def test_metrics_of_labels_from_zero_up(data):
    labels, scores, groups, _ = data
    known = np.maximum(scores, 0.25)
    assert of_numbers.poisson_deviance(labels, known) == pytest.approx(mean_poisson_deviance(labels, known), abs=1e-9)
    values = []
    for group in np.unique(groups):
        y, s = labels[groups == group], scores[groups == group]
        if y.any():  # scikit-learn wants two documents: one that is last and worth nothing changes no value
            values.append(ndcg_score([np.append(y, 0)], [np.append(s, -1)], k=3))
    wanted = np.mean(values) if values else math.nan
    assert of_numbers.graded_ndcg_at_k(labels, scores, groups, 3) == pytest.approx(wanted, nan_ok=True)
    gini = of_numbers.normalised_gini(labels, scores)
    if labels.max() > labels.min():
        assert gini == pytest.approx(gini_by_hand(labels, scores) / gini_by_hand(labels, labels), abs=1e-9)
    else:
        assert math.isnan(gini)


METRICS = {
    "rmse": of_numbers.rmse,
    "mae": of_numbers.mae,
    "r2": of_numbers.r_squared,
    "spearman": of_numbers.spearman,
    "calibration": of_numbers.calibration_ratio,
    "decile error": of_numbers.decile_error,
    "pinball": lambda y, s, weights=None: of_numbers.pinball(y, s, 0.3, weights),
    "skill": lambda y, s, weights=None: of_numbers.quantile_skill(y, s, 0.3, weights),
    "coverage": of_numbers.coverage,
    "gini": of_numbers.normalised_gini,
    "deviance": of_numbers.poisson_deviance,
    "accuracy": lambda y, s, weights=None: of_numbers.accuracy(y, s, np.arange(-3.0, 7.0), weights),
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@given(predictions(least=0))
def test_a_row_of_weight_two_counts_as_two_in_any_order(metric, data):
    labels, scores, _, weights = data
    times = weights.astype(int)
    wanted = metric(np.repeat(labels, times), np.repeat(scores, times))
    order = np.random.default_rng(0).permutation(len(labels))
    assert metric(labels, scores, weights=weights) == pytest.approx(wanted, nan_ok=True, abs=1e-9)
    assert metric(labels[order], scores[order], weights=5 * weights[order]) == pytest.approx(
        wanted, nan_ok=True, abs=1e-9
    )


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_score_that_is_no_number_and_no_rows_give_no_metric(metric):
    labels, scores = np.array([0.0, 1.0, 2.0], np.float32), np.array([1.0, np.nan, 2.0], np.float32)
    assert math.isnan(metric(labels, scores))
    assert math.isnan(metric(labels[:0], scores[:0]))


@given(predictions())
def test_deciles_hold_all_rows_and_do_not_split_a_tie_by_its_order(data):
    labels, scores, _, _ = data
    found = of_numbers.deciles(labels, scores)
    assert found.shape == (10, 2)
    assert found.mean(0) == pytest.approx([scores.mean(dtype=np.float64), labels.mean(dtype=np.float64)], abs=1e-9)
    assert (np.diff(found[:, 0]) >= -1e-9).all()
    order = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_allclose(of_numbers.deciles(labels[order], scores[order]), found, atol=1e-9)


def test_deciles_of_distinct_scores_are_tenths_of_the_rows():
    random = np.random.default_rng(3)
    scores, labels = random.permutation(200).astype(np.float64), random.random(200)
    order = np.argsort(scores)
    wanted = np.stack([scores[order].reshape(10, 20).mean(1), labels[order].reshape(10, 20).mean(1)], 1)
    np.testing.assert_allclose(of_numbers.deciles(labels, scores), wanted)
    error = np.abs(wanted[:, 0] - wanted[:, 1]).mean() / labels.mean()
    assert of_numbers.decile_error(labels, scores) == pytest.approx(error)


def test_what_is_not_defined_where_labels_are_negative():
    labels, scores = np.array([-1.0, 2.0, -3.0]), np.array([0.0, 1.0, 2.0])
    assert math.isnan(of_numbers.normalised_gini(labels, scores))
    assert math.isnan(of_numbers.graded_ndcg_at_k(labels, scores, np.zeros(3, np.uint64)))
    assert math.isnan(of_numbers.poisson_deviance(labels, scores))
    assert math.isnan(of_numbers.calibration_ratio(labels, scores))
    assert math.isnan(of_numbers.decile_error(labels, scores))
    assert math.isnan(of_numbers.poisson_deviance(-labels, -scores))


def test_graded_ndcg_counts_a_list_by_the_mean_weight_of_its_rows():
    labels, scores = np.array([1.0, 3.0, 2.0, 0.0]), np.array([2.0, 1.0, 1.0, 2.0])
    groups = np.array([1, 1, 2, 2], np.uint64)
    first = of_numbers.graded_ndcg_at_k(labels[:2], scores[:2], groups[:2])
    second = of_numbers.graded_ndcg_at_k(labels[2:], scores[2:], groups[2:])
    assert first == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))
    weights = np.array([1.0, 3.0, 4.0, 4.0])
    found = of_numbers.graded_ndcg_at_k(labels, scores, groups, weights=weights)
    assert found == pytest.approx((2 * first + 4 * second) / 6)


def test_a_label_between_two_levels_belongs_to_the_nearer_one():
    levels = np.array([1.0, 2.0, 4.0])
    found = of_numbers.accuracy(np.array([1, 2, 4, 4]), np.array([1.5, 2.9, 3.1, 2.5]), levels)
    assert found == 0.75


def test_nothing_is_explained_or_ordered_where_all_rows_that_count_are_the_same():
    """A weighted mean of equal numbers is not always one of them to the last bit."""
    weights = np.array([0.1, 0.7, 0.3, 0.0])
    labels, scores = np.array([0.1, 0.1, 0.1, 5.0]), np.array([0.1, 0.3, 0.2, 0.9])
    assert math.isnan(of_numbers.r_squared(labels, scores, weights))
    assert math.isnan(of_numbers.spearman(labels, scores, weights))
    assert math.isnan(of_numbers.spearman(scores, labels, weights))
    assert math.isnan(of_numbers.r_squared(labels[:3], scores[:3]))
