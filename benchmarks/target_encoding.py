"""Target encoding: an id becomes the positive rate of its training rows, never counting the row's own label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foundrank.data.arrow.values import Ragged

FOLDS = 5
STRENGTH = 10.0
NOT_TRAINING = -1


def make_folds(groups: NDArray, training: NDArray[np.bool_], in_order: bool, seed: int) -> NDArray[np.int64]:
    """``[N]`` fold of each training row, 0 to `FOLDS` - 1, and `NOT_TRAINING` of every other row.

    Rows of one group fall into one fold. Lists must stay whole: where every list has one positive and four negatives,
    a rate that lacks only part of a list would give away the labels of that part.

    Args:
        groups: ``[N]`` list of each row, distinct values where there are no lists.
        training: ``[N]`` bool.
        in_order: folds are stretches of the rows as they lie. In a log written in time order a rate then knows other
            times only, as it will in the test split; random folds would let it know the row's own hour. Where rows are
            sorted by user or item instead, random folds are right.
        seed: of random folds.
    """
    _, first, group = np.unique(groups[training], return_index=True, return_inverse=True)
    if in_order:
        order = np.argsort(np.argsort(first))
        fold_of_group = order * FOLDS // max(len(first), 1)
    else:
        fold_of_group = np.random.default_rng(seed).integers(FOLDS, size=len(first))
    folds = np.full(len(groups), NOT_TRAINING, np.int64)
    folds[training] = fold_of_group[group]
    return folds


@dataclass(frozen=True)
class TargetEncoding:
    """Rows and positives of each code, per fold.

    Attributes:
        seen: ``[FOLDS + 1, size]`` labelled training rows outside each fold; the last line is of all of them.
        positives: the same of the positives.
        rate: positive rate of all labelled training rows.
    """

    seen: NDArray[np.float64]
    positives: NDArray[np.float64]
    rate: float

    @classmethod
    def fit(
        cls, codes: NDArray[np.int64], size: int, labels: NDArray, known: NDArray[np.bool_], folds: NDArray[np.int64]
    ) -> "TargetEncoding":
        """Counts codes.

        Args:
            codes: ``[N]`` below ``size``; -1 where missing.
            size: number of codes.
            labels: ``[N]`` 0 or 1.
            known: ``[N]`` bool, rows that have a label.
            folds: ``[N]`` from `make_folds`; only training rows are counted.
        """
        labelled = known & (folds != NOT_TRAINING)
        counted = labelled & (codes >= 0)
        cell = folds[counted] * size + codes[counted]
        seen = np.bincount(cell, minlength=FOLDS * size).reshape(FOLDS, size).astype(np.float64)
        positives = np.bincount(cell, labels[counted], minlength=FOLDS * size).reshape(FOLDS, size)

        def outside(inside: NDArray) -> NDArray:
            total = inside.sum(0, keepdims=True)
            return np.concatenate([total - inside, total])

        return cls(outside(seen), outside(positives), float(labels[labelled].mean()) if labelled.any() else 0.0)

    def encode(self, codes: NDArray[np.int64], folds: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        """Smoothed positive rate and number of rows of each code, the row's own fold left out.

        The rate is ``(positives + 10 rate) / (rows + 10)``, as in the popularity baseline; NaN where the code is
        missing. Rows outside a fold are scaled to the size of all folds, so that they mean the same in every split.
        """
        at = np.maximum(codes, 0)
        seen, positives = self.seen[folds, at], self.positives[folds, at]  # fold -1 is the last line: all rows
        rates = (positives + STRENGTH * self.rate) / (seen + STRENGTH)
        scaled = seen * np.where(folds == NOT_TRAINING, 1.0, FOLDS / (FOLDS - 1))
        return np.where(codes >= 0, rates, np.nan), np.where(codes >= 0, scaled, np.nan)

    def encode_lists(self, lists: Ragged, folds: NDArray[np.int64]) -> NDArray[np.float64]:
        """``[N]`` mean rate of each row's codes; NaN where the list is empty."""
        codes, offsets = lists
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(len(lengths)), lengths)
        sums = np.bincount(row, self.encode(codes, folds[row])[0], minlength=len(lengths))
        return np.divide(sums, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0)
