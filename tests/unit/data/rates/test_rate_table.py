"""What is known of an id, part by part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.rates import sums
from foundrank.data.rates.parts import FOLDS, Parts, RowParts
from foundrank.data.rates.rates import FARTHEST, MISSING, NOTHING_KNOWN, UNSEEN, Rates, RateTable
from foundrank.data.rates.sums import CellSums, Labels, rate_table

LABELS = Labels(np.array([0.25]), np.array([0.5]), np.array([True]))
PLAIN = np.array([[0.0, 1.0], [0.0, 1.0]])
"""Moments that leave rates and counts as they are."""
PRIOR = 5.0
TIMES = Parts(np.array([10.0, 20.0, 30.0]))
FOLDED = Parts(None)


@pytest.fixture
def fixed_prior(monkeypatch):
    """The prior stands for five labels, whatever they are."""
    monkeypatch.setattr(sums, "_LEAST", PRIOR)
    monkeypatch.setattr(sums, "_MOST", PRIOR)


def table_of(ids, added, labels, parts, weights=None):
    adding = CellSums(1)
    weights = np.ones(len(ids)) if weights is None else weights
    adding.add(ids * parts.count + added, np.stack([weights, weights * labels], 1))
    return rate_table(*adding.merged(), parts, [LABELS], PLAIN)[0]


def expected(n: float, total: float) -> list[float]:
    rate = (total + PRIOR * 0.25) / (n + PRIOR)
    return [np.log(rate / (1 - rate)) - np.log(0.25 / 0.75), np.log1p(n)]


def rows(added, known=None) -> RowParts:
    return RowParts(np.array(added), np.array(added if known is None else known))


def test_a_row_knows_of_the_blocks_before_its_own(fixed_prior):
    ids, part, labels = np.array([3, 3, 3, 7, 3]), np.array([0, 0, 2, 1, 3]), np.array([1.0, 0, 1, 1, 0])
    table = table_of(ids, part, labels, TIMES)
    known = table.known(np.array([3] * 4 + [7] * 2), TIMES, rows([0, 1, 2, 3, 1, 2]))[0]
    wanted = [(0, 0), (2, 1), (2, 1), (3, 2), (0, 0), (1, 1)]
    np.testing.assert_allclose(known, [expected(*each) for each in wanted], rtol=1e-6)
    # Whoever is no row of training knows of all.
    np.testing.assert_allclose(
        table.known(np.array([3, 7]), TIMES, None)[0], [expected(4, 2), expected(1, 1)], rtol=1e-6
    )


def test_a_row_knows_of_all_folds_but_its_own(fixed_prior):
    ids, part, labels = np.array([3, 3, 3, 7]), np.array([0, 0, 2, 1]), np.array([1.0, 0, 1, 1])
    table = table_of(ids, part, labels, FOLDED)
    known = table.known(np.array([3, 3, 3, 7, 7]), FOLDED, rows([0, 2, 1, 1, 4]))[0]
    wanted = [(1, 1), (2, 1), (3, 2), (0, 0), (1, 1)]
    np.testing.assert_allclose(known, [expected(*each) for each in wanted], rtol=1e-6)
    np.testing.assert_allclose(
        table.known(np.array([3, 7]), FOLDED, None)[0], [expected(3, 2), expected(1, 1)], rtol=1e-6
    )


@pytest.mark.parametrize("parts", [TIMES, FOLDED])
def test_of_an_id_never_seen_nothing_is_known_and_without_one_columns_are_0(parts):
    adding = CellSums(1)
    adding.add(np.array([3, 4]) * parts.count, np.array([[1.0, 1.0], [1.0, 0.0]]))
    table, moments, _ = rate_table(*adding.merged(), parts, [LABELS], np.array([[0.5, 2.0], [1.0, 4.0]]))
    for of_rows in (None, rows([1, 1, 1])):
        known = table.known(np.array([UNSEEN, MISSING, 99]), parts, of_rows)[0]
        np.testing.assert_allclose(known, [[-0.25, -0.25], [0, 0], [-0.25, -0.25]])
    assert moments.tolist() == [[0.5, 2.0], [1.0, 4.0]]


@pytest.mark.parametrize("parts", [TIMES, FOLDED])
def test_without_any_label_all_is_nothing(parts):
    table, _, _ = rate_table(*CellSums(1).merged(), parts, [LABELS], None)
    assert not table.known(np.array([1, UNSEEN, MISSING]), parts, None)[0].any()
    assert not table.known(np.array([1, 2]), parts, rows([0, 1]))[0].any()


def test_columns_are_standardised_as_the_rows_of_training_see_them():
    random = np.random.default_rng(0)
    ids, part = random.integers(1, 30, 4000), random.integers(0, 4, 4000)
    labels = (random.random(4000) < ids / 40).astype(float)
    adding = CellSums(1)
    adding.add(ids * 4 + part, np.stack([np.ones(4000), labels], 1))
    table, _, _ = rate_table(*adding.merged(), TIMES, [LABELS], None)
    known = table.known(ids, TIMES, RowParts(part, part))[0]
    np.testing.assert_allclose(known.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(known.std(0), 1, atol=1e-5)


def test_the_prior_is_strong_where_ids_are_alike_and_weak_where_they_differ():
    random = np.random.default_rng(0)
    ids = np.repeat(np.arange(200), 50)
    rates = random.beta(2, 6, 200)  # as if 8 labels were known of each
    labels = (random.random(len(ids)) < rates[ids]).astype(float)
    totals = np.stack([np.full(200, 50.0), np.bincount(ids, labels)], 1)
    of_labels = Labels(np.array([labels.mean()]), np.array([labels.std()]), np.array([True]))
    assert 5 < sums._labels_of_prior(totals, of_labels)[0] < 12
    alike = np.stack([np.full(200, 50.0), random.binomial(50, 0.25, 200).astype(float)], 1)
    assert sums._labels_of_prior(alike, LABELS)[0] > 100


def test_sums_are_the_same_however_the_rows_come(monkeypatch):
    monkeypatch.setattr(sums, "_PENDING", 50)
    random = np.random.default_rng(0)
    cells, values = random.integers(0, 40, 1000), random.integers(0, 3, (1000, 2)).astype(float)
    at_once, in_pieces = CellSums(1), CellSums(1)
    at_once.add(cells, values)
    for start in range(0, 1000, 7):
        in_pieces.add(cells[start : start + 7], values[start : start + 7])
    for one, other in zip(at_once.merged(), in_pieces.merged(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(at_once.merged()[1][:, 0], np.bincount(cells, values[:, 0])[np.unique(cells)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_a_row_knows_does_not_depend_on_its_own_label_nor_on_later_ones(data):
    n = data.draw(st.integers(1, 30))
    numbers = np.random.default_rng(data.draw(st.integers(0, 999)))
    ids, part = numbers.integers(0, 4, n), numbers.integers(0, FOLDS, n)
    labels = numbers.integers(0, 2, n).astype(float)
    row = data.draw(st.integers(0, n - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "_LEAST", PRIOR)
        patch.setattr(sums, "_MOST", PRIOR)
        for parts in (Parts(np.arange(1.0, FOLDS)), FOLDED):
            unknown = part >= part[row] if parts.ordered else part == part[row]
            changed = np.where(unknown, 1 - labels, labels)
            before, after = (
                table_of(ids, part, each, parts).known(ids[row : row + 1], parts, rows(part[row : row + 1]))[0]
                for each in (labels, changed)
            )
            np.testing.assert_array_equal(before, after)
            n_known = (ids == ids[row]) & ((part < part[row]) if parts.ordered else (part != part[row]))
            np.testing.assert_allclose(before[0], expected(n_known.sum(), labels[n_known].sum()), rtol=1e-5, atol=1e-6)


def test_what_all_rows_of_training_see_alike_is_0_for_others_too():
    ids = np.repeat(np.arange(1, 5), 3)  # the rows of each are in one fold
    table, _, _ = rate_table(*_added(ids, np.repeat(np.arange(4), 3)), FOLDED, [LABELS], None)
    np.testing.assert_allclose(table.known(np.array([1, UNSEEN]), FOLDED, None)[0], 0, atol=1e-9)


def test_no_number_is_far_from_what_training_shows_and_what_is_not_known_is_marked():
    table = RateTable(
        np.array([-1, 1 * FOLDED.stride + FOLDED.count]), np.array([[0.5, -11.0], [30.0, 2.0]], np.float32)
    )
    rates, ids = Rates(FOLDED, {"id_item": table}, {}), {"id_item": np.array([UNSEEN, 1, MISSING, 2])}
    found = rates.columns(ids, {"id_item": "item"}, None, marked=False)
    np.testing.assert_array_equal(found, [[0.5, -FARTHEST], [FARTHEST, 2], [0, 0], [0.5, -FARTHEST]])
    marked = rates.columns(ids, {"id_item": "item"}, None)
    np.testing.assert_array_equal(marked[[0, 3]], np.full((2, 2), NOTHING_KNOWN))
    np.testing.assert_array_equal(marked[1:3], found[1:3])


def test_a_row_before_the_first_label_knows_nothing():
    table = table_of(np.array([3, 3]), np.array([1, 2]), np.array([1.0, 0]), TIMES)
    rates = Rates(TIMES, {"id_item": table}, {})
    found = rates.columns({"id_item": np.array([3, 3, 3])}, {"id_item": "item"}, {"item": rows([0, 1, 2])})
    assert (found == NOTHING_KNOWN).all(1).tolist() == [True, True, False]


def test_a_row_whose_fold_has_all_labels_of_its_id_knows_nothing():
    table = table_of(np.array([3, 3, 4, 4]), np.array([1, 1, 1, 2]), np.array([1.0, 0, 1, 1]), FOLDED)
    rates = Rates(FOLDED, {"id_item": table}, {})
    found = rates.columns({"id_item": np.array([3, 4, 3])}, {"id_item": "item"}, {"item": rows([1, 1, 2])})
    assert (found == NOTHING_KNOWN).all(1).tolist() == [True, False, False]


def _added(ids, part):
    adding = CellSums(1)
    adding.add(ids * FOLDED.count + part, np.ones((len(ids), 2)))
    return adding.merged()
