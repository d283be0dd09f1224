import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from foundrank.model.tasks import metrics
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.group_metrics import gauc, ndcg_at_k, uauc
from foundrank.model.tasks.metrics import auc, calibration, logloss, normalized_entropy

CLICK = Binary(label="click")


@st.composite
def predictions(draw):
    """Few distinct scores and groups, so that ties and one-class groups are common."""
    size = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    scores = draw(st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]), min_size=size, max_size=size))
    groups = draw(st.lists(st.sampled_from([0, 3, 2**63 + 1, 2**64 - 1]), min_size=size, max_size=size))
    return np.array(labels, np.float32), np.array(scores, np.float32), np.array(groups, np.uint64)


def auc_by_pairs(labels, scores):
    positives, negatives = scores[labels > 0], scores[labels <= 0]
    if not len(positives) or not len(negatives):
        return math.nan
    won = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def groups_of(labels, scores, groups):
    return [(labels[groups == g], scores[groups == g]) for g in np.unique(groups)]


@given(predictions())
def test_auc_counts_every_pair(data):
    labels, scores, _ = data
    assert auc(labels, scores) == pytest.approx(auc_by_pairs(labels, scores), nan_ok=True)


def test_auc_of_more_pairs_than_half_an_integer_of_64_bits_holds(monkeypatch):
    counts = np.array([0.25, 0.5]), np.array([10**9, 10**9]), np.array([3 * 10**9, 10**9])
    monkeypatch.setattr(metrics, "_counted", lambda positive, scores: counts)
    assert auc(np.zeros(2), np.zeros(2)) == (1.5 + 3.5) / 8


@given(predictions())
def test_gauc_is_the_loop_over_groups(data):
    labels, scores, groups = data
    parts = [(len(y), auc_by_pairs(y, s)) for y, s in groups_of(labels, scores, groups)]
    parts = [(n, value) for n, value in parts if not math.isnan(value)]
    expected = sum(n * v for n, v in parts) / sum(n for n, _ in parts) if parts else math.nan
    assert gauc(labels, scores, groups) == pytest.approx(expected, nan_ok=True)
    plain = float(np.mean([v for _, v in parts])) if parts else math.nan
    assert uauc(labels, scores, groups) == pytest.approx(plain, nan_ok=True)


@given(predictions(), st.integers(1, 12))
def test_ndcg_averages_over_the_orders_of_ties(data, k):
    """scikit-learn's NDCG gives a tie the mean gain of its block as well."""
    labels, scores, groups = data
    values = []
    for y, s in groups_of(labels, scores, groups):
        if y.any():  # scikit-learn wants two documents: one that is last and worth nothing changes no value
            values.append(ndcg_score([np.append(y, 0)], [np.append(s, -1)], k=k))
    expected = np.mean(values) if values else math.nan
    assert ndcg_at_k(labels, scores, groups, k) == pytest.approx(expected, nan_ok=True)


@given(predictions(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(data, random):
    labels, scores, groups = data
    order = list(range(len(labels)))
    random.shuffle(order)
    row = CLICK.metrics(labels, scores, groups, groups)
    shuffled = CLICK.metrics(labels[order], scores[order], groups[order], groups[order])
    assert row == pytest.approx(shuffled, nan_ok=True)


def test_ndcg_by_hand():
    labels = np.array([0, 1, 1, 0, 0])
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    groups = np.zeros(5, np.int64)
    # The three rows of the tie fill places 2 to 4, two of three positive.
    places = [1 / math.log2(place + 1) for place in range(1, 6)]
    expected = 2 / 3 * sum(places[1:4]) / sum(places[:2])
    assert ndcg_at_k(labels, scores, groups) == pytest.approx(expected)


def test_gauc_weighs_by_rows_and_skips_groups_of_one_class():
    labels = np.array([1, 0, 0, 1, 1, 1])
    scores = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.6])
    groups = np.array([1, 1, 2, 2, 2, 3])  # AUC 1 on two rows, 0 on three, none on one
    assert gauc(labels, scores, groups) == pytest.approx(2 / 5)
    assert uauc(labels, scores, groups) == pytest.approx(1 / 2)  # and here every user counts the same


def test_auc_is_exact_at_a_low_click_rate():
    """Nearly all scores of such a model share one of 200 bins: a binned AUC is far too low."""
    random = np.random.default_rng(0)
    logits = random.normal(-7.0, 1.0, 1_000_000)
    labels = (random.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    assert 0.001 < labels.mean() < 0.002
    exact = roc_auc_score(labels, probabilities)
    assert 0.74 < exact < 0.78
    assert roc_auc_score(labels, np.floor(200 * probabilities)) < exact - 0.1
    assert auc(labels, probabilities) == pytest.approx(exact, abs=1e-12)
    # Any rising transformation keeps the ranking, however close together it pushes the scores.
    assert auc(labels, probabilities.astype(np.float64) ** 4) == pytest.approx(exact, abs=1e-12)


def test_logloss_entropy_and_calibration():
    random = np.random.default_rng(1)
    probabilities = random.uniform(0.01, 0.3, 5000).astype(np.float32)
    labels = (random.random(5000) < 0.1).astype(np.float32)
    assert logloss(labels, probabilities) == pytest.approx(log_loss(labels, probabilities.astype(float)))
    rate = labels.mean(dtype=np.float64)
    base = np.full(5000, rate)
    assert normalized_entropy(labels, base) == pytest.approx(1)
    assert normalized_entropy(labels, probabilities) == pytest.approx(
        log_loss(labels, probabilities.astype(float)) / log_loss(labels, base)
    )
    assert calibration(labels, base) == pytest.approx(1)
    assert calibration(labels, 2 * base) == pytest.approx(2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logloss_clips_certainty(dtype):
    wrong = logloss(np.array([1, 0]), np.array([0, 1], dtype))
    assert wrong == pytest.approx(-math.log(1e-7), rel=1e-6)
    assert logloss(np.array([1, 0]), np.array([1, 0], dtype)) == pytest.approx(1e-7, rel=1e-3)


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_undefined_metrics_are_none_in_json(labels):
    labels = np.array(labels, np.float32)
    groups = np.zeros(len(labels), np.int64)
    row = CLICK.metrics(labels, np.full(len(labels), 0.5, np.float32), groups, groups)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["auc"] is None
    assert row["gauc"] is None
    assert row["ne"] is None
    assert (row["calibration"] is None) == (row["ndcg@10"] is None) == (not labels.any())


def test_a_diverged_model_has_no_ranking():
    labels = np.array([0, 1, 0, 1])
    scores = np.array([0.1, np.nan, 0.3, 0.4])
    row = CLICK.metrics(labels, scores, np.zeros(4, np.int64), np.zeros(4, np.int64))
    assert [row[key] for key in ("auc", "gauc", "uauc", "logloss", "ne", "calibration", "ndcg@10")] == [None] * 7
    assert math.isnan(auc(labels, np.array([np.nan, 0.1, 0.2, 0.3])))


@given(predictions(), st.data())
def test_a_row_of_weight_2_counts_as_two_rows(data, more):
    labels, scores, groups = data
    times = np.array(more.draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels))))
    weights = times.astype(np.float32)
    repeated = [np.repeat(column, times) for column in data]
    for metric in (auc, logloss, normalized_entropy, calibration):
        expected = metric(*repeated[:2]) if times.any() else math.nan
        assert metric(labels, scores, weights) == pytest.approx(expected, nan_ok=True), metric
    for metric in (gauc, uauc):
        expected = metric(*repeated) if times.any() else math.nan
        assert metric(labels, scores, groups, weights) == pytest.approx(expected, nan_ok=True), metric


@given(predictions(), st.data())
def test_weights_are_those_of_scikit_learn(data, more):
    labels, scores, _ = data
    each = st.floats(0.001, 1000) | st.just(0.0)
    weights = np.array(more.draw(st.lists(each, min_size=len(labels), max_size=len(labels))))
    positive, negative = weights[labels > 0].sum(), weights[labels <= 0].sum()
    if positive and negative:
        assert auc(labels, scores, weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
        expected = log_loss(labels, clipped, sample_weight=weights)
        assert logloss(labels, scores, weights) == pytest.approx(expected)
        base = log_loss(labels, np.full(len(labels), positive / (positive + negative)), sample_weight=weights)
        assert normalized_entropy(labels, scores, weights) == pytest.approx(expected / base)
    else:
        assert math.isnan(auc(labels, scores, weights))
    if positive:
        assert calibration(labels, scores, weights) == pytest.approx((weights * scores).sum() / positive)


def test_a_list_counts_by_the_mean_weight_of_its_rows():
    labels, scores = np.array([0, 1, 1, 0, 1, 0]), np.array([0.9, 0.5, 0.9, 0.5, 0.2, 0.1])
    lists, weights = np.array([7, 7, 3, 3, 3, 9], np.uint64), np.array([1.0, 3.0, 0.5, 0.1, 0.3, 9.0])
    of_7, of_3 = 1 / math.log2(3), (1 + 1 / 2) / (1 + 1 / math.log2(3))
    assert ndcg_at_k(labels, scores, lists, weights=weights) == pytest.approx((2 * of_7 + 0.3 * of_3) / 2.3)
    assert ndcg_at_k(labels, scores, lists) == pytest.approx((of_7 + of_3) / 2)
    assert math.isnan(ndcg_at_k(labels, scores, lists, weights=np.zeros(6)))


def test_the_binary_kind_gives_its_weights_to_every_metric():
    labels, scores = np.array([0, 1, 1, 0, 1, 0]), np.array([0.9, 0.5, 0.9, 0.5, 0.2, 0.1])
    groups, times = np.array([7, 7, 3, 3, 3, 9], np.uint64), np.array([1, 3, 2, 0, 1, 2])
    weighted = CLICK.metrics(labels, scores, groups, groups, slice(None), times.astype(np.float32))
    repeated = CLICK.metrics(*(np.repeat(column, times) for column in (labels, scores, groups)))
    same = ("auc", "gauc", "logloss", "ne", "calibration")
    assert [weighted[key] for key in same] == pytest.approx([repeated[key] for key in same])
    assert weighted["ndcg@10"] == pytest.approx(ndcg_at_k(labels, scores, groups, weights=times))
    assert weighted["positives"] == 3  # rows
    assert CLICK.headline(labels, scores, times) == weighted["auc"]


def test_no_entropy_where_all_rows_that_count_are_of_one_class():
    weights = np.array([1e-16, 0.3, 1.0, 7e3, 0.0])
    assert math.isnan(normalized_entropy(np.array([1, 1, 1, 1, 0]), np.full(5, 0.3), weights))
    assert math.isnan(normalized_entropy(np.array([0, 0, 0, 0, 1]), np.full(5, 0.3), weights))
