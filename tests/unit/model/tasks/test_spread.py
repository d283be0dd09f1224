"""Every metric of rows that are spread over ranks is that of one process, for any ranks, shares and ties."""

import math
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.model.tasks import number_metrics as of_numbers
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.count import Count
from foundrank.model.tasks.group_metrics import gauc_and_uauc, ndcg_at_k
from foundrank.model.tasks.metrics import all_same, auc, mean
from foundrank.model.tasks.number_task import RMSE, Measured
from foundrank.model.tasks.ordinal import Ordinal
from foundrank.model.tasks.regression import Regression
from foundrank.model.tasks.spread import ranges
from foundrank.model.tasks.value import Value
from tests.toy_task import Amount

KINDS = (
    Binary(label="a"),
    Regression(label="a"),
    Regression(label="a", loss="quantile", quantile=0.3),
    Value(label="a"),
    Count(label="a"),
    Ordinal(label="a", levels=(0.0, 1.0, 2.0)),
)


class Together:
    """What threads that stand for ranks have in common."""

    def __init__(self, ranks: int, borders: list[float]):
        self.barrier, self.values = Barrier(ranks, timeout=20), [None] * ranks
        self.borders = np.array(sorted(borders)[: ranks - 1])


class OfThreads:
    """A `Spread` over threads; where ranges of values are cut is given."""

    def __init__(self, rank: int, ranks: int, together: Together):
        self.rank, self.ranks, self._together = rank, ranks, together

    def told(self, value: Any) -> list[Any]:
        self._together.values[self.rank] = value
        self._together.barrier.wait()
        found = list(self._together.values)
        self._together.barrier.wait()
        return found

    def each(self, values: np.ndarray) -> np.ndarray:
        found = self.told(np.asarray(values))
        assert len({(of.dtype, of.shape) for of in found}) == 1  # a real exchange would fail
        return np.stack(found)

    def by_value(self, keys: np.ndarray, *columns: Any) -> tuple[list[Any], Callable]:
        assert not (np.diff(keys) <= 0).any()
        return self._sent(np.searchsorted(self._together.borders, keys), [keys, *columns])

    def by_group(self, groups: np.ndarray, *columns: Any) -> tuple[list[Any], Callable]:
        return self._sent((groups % np.uint64(self.ranks)).astype(int), [groups, *columns])

    def _sent(self, target: np.ndarray, columns: list[Any]) -> tuple[list[Any], Callable]:
        def moved(target: np.ndarray, columns: list[Any]) -> list[Any]:
            every = self.told((target, columns))
            assert len({tuple(column is not None and column.dtype for column in of) for _, of in every}) == 1
            return [
                None if column is None else np.concatenate([of[at][to == self.rank] for to, of in every])
                for at, column in enumerate(columns)
            ]

        origin = np.full(len(target), self.rank)
        *rows, from_rank = moved(target, [*columns, origin])

        def back(values: np.ndarray) -> np.ndarray:
            (returned,) = moved(from_rank, [values])
            out = np.empty_like(returned)
            out[np.argsort(target, kind="stable")] = returned
            return out

        return rows, back


def on_ranks(shares: np.ndarray, borders: list[float], work: Callable, *columns: Any) -> list[Any]:
    """What ``work`` gives on each rank, of its rows of the columns and a `Spread`."""
    ranks = int(shares.max(initial=0)) + 1
    together, out, wrong = Together(ranks, borders), [None] * ranks, list[BaseException]()

    def one(rank: int) -> None:
        mine = [None if column is None else column[shares == rank] for column in columns]
        try:
            out[rank] = work(*mine, OfThreads(rank, ranks, together))
        except BaseException as error:
            wrong.append(error)
            together.barrier.abort()

    threads = [Thread(target=one, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return out


@st.composite
def spread_rows(draw):
    """Few distinct values, so that ties across ranks and groups on several are common; ranks may have no rows, a score may be NaN."""
    size, ranks = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    some = {"min_size": size, "max_size": size}
    labels = draw(st.lists(st.sampled_from([0, 0, 1, 2] if draw(st.booleans()) else [0]), **some))
    scores = draw(st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]), **some))
    if draw(st.integers(0, 9)) == 0:
        scores[0] = math.nan
    groups = draw(st.lists(st.sampled_from([0, 3, 4, 2**63 + 1, 2**64 - 1]), **some))
    weights = draw(st.none() | st.lists(st.integers(0, 3), **some))
    shares = draw(st.lists(st.integers(0, ranks - 1), **some))
    shares[0] = ranks - 1  # so many ranks there are, whether the others have rows or not
    borders = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.3, 1.0, 2.0]), min_size=2, max_size=2))
    columns = (
        np.array(labels, np.float32),
        np.array(scores, np.float32),
        np.array(groups, np.uint64),
        None if weights is None else np.array(weights, np.float32),
    )
    return np.array(shares), borders, columns


def agree(found: list[Any], wanted: Any) -> None:
    for of_rank in found:
        assert of_rank == pytest.approx(wanted, rel=1e-12, abs=1e-12, nan_ok=True)


BINARY = {
    "auc": lambda y, s, g, w, **spread: auc(y > 0, s, w, **spread),
    "gauc and uauc": lambda y, s, g, w, **spread: gauc_and_uauc(y > 0, s, g, w, **spread),
    "ndcg": lambda y, s, g, w, **spread: ndcg_at_k(y > 0, s, g, 2, w, **spread),
    "mean": lambda y, s, g, w, **spread: mean(s, w, **spread),
    "all the same": lambda y, s, g, w, **spread: all_same(y, w, **spread),
    "graded ndcg": lambda y, s, g, w, **spread: of_numbers.graded_ndcg_at_k(y, s, g, 2, w, **spread),
    "spearman": lambda y, s, g, w, **spread: of_numbers.spearman(y, s, w, **spread),
    "gini": lambda y, s, g, w, **spread: of_numbers.normalised_gini(y, s, w, **spread),
    "deciles": lambda y, s, g, w, **spread: of_numbers.deciles(y, s, w, **spread).tolist(),
    "skill": lambda y, s, g, w, **spread: of_numbers.quantile_skill(y, s, 0.4, w, **spread),
    "deviance": lambda y, s, g, w, **spread: of_numbers.poisson_deviance(y, s, w, **spread),
    "coverage": lambda y, s, g, w, **spread: of_numbers.coverage(y, s, w, **spread),
}


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=60)
@given(spread_rows())
def test_a_metric_of_spread_rows_is_that_of_one_process(name, rows):
    shares, borders, columns = rows
    metric = BINARY[name]
    wanted = metric(*columns)
    found = on_ranks(shares, borders, lambda *mine: metric(*mine[:-1], spread=mine[-1]), *columns)
    if name == "deciles":  # nested lists
        agree([np.array(of) for of in found], np.array(wanted))
    else:
        agree(found, wanted)


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.kind)
@settings(max_examples=40)
@given(spread_rows())
def test_a_kind_measures_spread_rows_as_one_process_does(task, rows):
    shares, borders, (labels, scores, groups, weights) = rows
    scores = np.nan_to_num(scores)
    labels = np.minimum(labels, 1) if task.kind == "binary" else labels
    in_list = groups != 3
    assert task.spreads

    def measure(labels, scores, groups, in_list, weights, spread):
        found = task.metrics(labels, scores, groups, groups, in_list, weights, spread)
        return known(found | {"headline": task.headline(labels, scores, weights, spread)})

    def known(found):
        return {name: math.nan if value is None else value for name, value in found.items()}

    wanted = task.metrics(labels, scores, groups, groups, in_list, weights)
    wanted = known(wanted | {"headline": task.headline(labels, scores, weights)})
    deciles = np.array(wanted.pop("deciles", []))
    for found in on_ranks(shares, borders, measure, labels, scores, groups, in_list, weights):
        agree([np.array(found.pop("deciles", []))], deciles)
        agree([found], wanted)


@given(spread_rows())
def test_ranges_hold_every_key_once_and_give_back_what_is_found_of_it(rows):
    shares, borders, (labels, scores, _, _) = rows
    scores = np.nan_to_num(scores)

    def work(scores, labels, spread):
        own, at = np.unique(scores, return_inverse=True)
        sums = np.bincount(at, labels, len(own)).astype(np.int64)
        (keys, merged), back = ranges(own, sums, spread=spread)
        return own, keys, merged, back(10 * keys)

    found = on_ranks(shares, borders, work, scores, labels)
    keys, sums = (np.concatenate([of[at] for of in found]) for at in (1, 2))
    assert keys.tolist() == sorted(set(scores.tolist()))
    assert sums.dtype == np.int64
    assert sums.tolist() == [labels[scores == key].sum() for key in keys]
    for own, _, _, given_back in found:
        assert given_back.tolist() == (10 * own).tolist()


def test_kinds_that_do_not_know_of_ranks_say_so():
    class OwnMeasure(Regression):
        @property
        def measured(self):
            return RMSE, Measured(RMSE.metric, lambda labels, scores, weights=None: 0.0)

    assert not OwnMeasure(label="a").spreads
    assert not Amount(label="a").spreads
    assert OwnMeasure(label="a").metrics(np.ones(2), np.ones(2))["rmse"] == 0
