"""How alike the rows' items and each of their past items are: cosines, counted in bins, and the means of the largest."""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..arrow.values import Ragged, keep
from ..config.experiment import Experiment
from ..config.sections.similarity import SimilarityConfig
from ..contents.content_table import ContentTable
from ..contents.leading_directions import Directions, along
from ..schema.layout import Layout, content_key
from .rows import Rows

_AT_A_TIME = 1 << 16  # past items
_LEAST = -2.0  # stands in a place without a past item: below any cosine


def similar_items(
    experiment: Experiment,
    layout: Layout,
    contents: Mapping[str, ContentTable],
    directions: Mapping[str, Directions],
) -> "dict[str, SimilarItems]":
    """Name of a content's vectors -> what compares items by it; nothing where the model does not ask."""
    config = experiment.model.similarity
    if config is None:
        return {}
    first = {name: layout.dense.index(config.columns(name)[0]) for name in experiment.compared()}
    keys = {name: content_key("item", name) for name in first}
    return {key: SimilarItems(config, contents[key], directions[name], first[name]) for name, key in keys.items()}


class SimilarItems:
    """A content of items, along its directions. A row of the content's table gets its directions when it is first asked for, and keeps
    them: memory grows with the items that events name.
    """

    def __init__(self, config: SimilarityConfig, content: ContentTable, directions: Directions, first: int = 0):
        """Args: what to tell; the content's vectors and directions; the first of the columns of ``Rows.dense``."""
        self._config, self._content, self._directions = config, content, directions
        self._columns = slice(first, first + len(config.columns("")))
        rows, dims = len(content.vectors), directions.shape[1] - 1
        self._along = torch.from_numpy(np.empty((rows, dims), np.float32))  # memory that nobody has touched is none
        self._known = np.zeros(rows, bool)
        # Cosines of items that have nothing to do with each other deviate by 1/2 then.
        self._scale = dims**0.5 / 2

    def tell(self, out: Rows, key: str, past: Ragged) -> None:
        """Fills the columns of rows whose own items' contents are known; ``key`` names them, ``past`` as of `of_rows`."""
        out.dense[:, self._columns] = self.of_rows(out.content_rows[key], past)

    def of_rows(self, own: np.ndarray, past: Ragged) -> np.ndarray:
        """What the cosines of each row say, ``[N, columns]`` float32, in the order of `SimilarityConfig.columns`.

        The largest have the scale of numbers that are standardised: cosines times half the root of the number of directions. Counts
        are as log(1 + count). All are 0 for a row whose item, or of whose past no item, has the content.

        Args:
            own: ``[N]`` int64 rows of the content's table, of the rows' items; -1 for none.
            past: the same of past items, ragged.
        """
        values, offsets = past
        values, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
        there = (values >= 0) & np.repeat(own >= 0, np.diff(offsets))
        if not there.all():
            values, offsets = keep(values, offsets, there)
        found = np.zeros((len(own), len(self._config.top) + self._config.bins), np.float32)
        self._learn(np.concatenate([own[own >= 0], values]))
        start = 0
        while start < len(own):  # as many rows as have so many past items, but at least one
            stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + _AT_A_TIME, "right")) - 1)
            part = offsets[start : stop + 1]
            if part[-1] > part[0]:
                self._tell(found[start:stop], own[start:stop], values[part[0] : part[-1]], part - part[0])
            start = stop
        return found

    def _learn(self, rows: np.ndarray) -> None:
        new = np.unique(rows[~self._known[rows]])
        for start in range(0, len(new), _AT_A_TIME):
            block = new[start : start + _AT_A_TIME]
            self._along[torch.from_numpy(block)] = along(
                self._directions, self._content.vectors[torch.from_numpy(block)]
            )
            self._known[block] = True

    def _tell(self, out: np.ndarray, own: np.ndarray, past: np.ndarray, offsets: np.ndarray) -> None:
        config, lengths = self._config, np.diff(offsets)
        row = np.repeat(np.arange(len(own)), lengths)
        cosines = sampled_products(self._along[torch.from_numpy(np.maximum(own, 0))], self._along, past, offsets)
        cosines = cosines.clamp_(-1, 1)
        most = min(max(config.top, default=0), int(lengths.max()))
        if config.top:
            by_row = torch.full((len(own), int(lengths.max())), _LEAST)
            by_row[torch.from_numpy(row), torch.from_numpy(np.arange(len(row)) - offsets[row])] = cosines
            largest = by_row.topk(most, 1).values
            sums = torch.where(largest > _LEAST, largest, 0).cumsum(1).numpy()
            for at, many in enumerate(config.top):
                taken = np.minimum(lengths, many)
                out[:, at] = self._scale * sums[:, min(many, most) - 1] / np.maximum(taken, 1)
        if config.bins:
            bins = np.minimum((cosines.numpy() + 1) * (config.bins / 2), config.bins - 1).astype(np.int64)
            counts = np.bincount(row * config.bins + bins, minlength=len(own) * config.bins)
            out[:, len(config.top) :] = np.log1p(counts.reshape(len(own), -1))


def sampled_products(own: Tensor, others: Tensor, at: np.ndarray, offsets: np.ndarray) -> Tensor:
    """``[total]``: the product of each row ``[N, K]`` with those of ``[M, K]`` that it names, ragged ``at`` with ``offsets``.

    Nothing is gathered where torch has Intel's MKL, which is ten times as fast.
    """
    if not torch.backends.mkl.is_available():
        row = np.repeat(np.arange(len(own)), np.diff(offsets))
        return (own[torch.from_numpy(row)] * others[torch.from_numpy(at)]).sum(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse tensors are new
        size = (len(own), len(others))
        asked = torch.sparse_csr_tensor(
            torch.from_numpy(offsets), torch.from_numpy(at), torch.zeros(len(at)), size, check_invariants=False
        )
        return torch.sparse.sampled_addmm(asked, own, others.T, beta=0.0).values()
