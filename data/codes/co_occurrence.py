"""Which items are together in training rows: a graph that knows nothing of validation and test."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..arrow.ids import id_keys
from ..arrow.values import ragged_keys
from ..config.experiment import Experiment
from ..errors import UserError
from ..events.bad_rows import read_good_rows
from ..events.event_files import EventFiles
from ..schema.column_needs import needed_columns
from ..vocabulary.vocabulary import KeyIndex

_NEAR = 5  # places in a user's sequence within which items are together
_PENDING = 1 << 22  # pairs that are held before they are counted
_FEW_STEPS = 8  # of the iteration that finds leading directions


@dataclass(frozen=True)
class Graph:
    """Pairs of C items, each in both directions, by the first and then the second.

    Attributes:
        first: ``[C + 1]`` int64, where each item's pairs begin.
        other: ``[E]`` int64, with whom.
        weight: ``[E]`` float32, how often.
    """

    first: np.ndarray
    other: np.ndarray
    weight: np.ndarray

    @property
    def degrees(self) -> np.ndarray:
        """``[C]`` float64, the weights of each item's pairs together."""
        sums = np.concatenate([[0.0], np.cumsum(self.weight, dtype=np.float64)])
        return sums[self.first[1:]] - sums[self.first[:-1]]

    def of(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of some items ``[n]``: which of the n, with whom, and how often, ``[P]`` each."""
        many = self.first[items + 1] - self.first[items]
        row = np.repeat(np.arange(len(items)), many)
        at = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many) + self.first[items][row]
        return row, self.other[at], self.weight[at]


def pairs_of(
    experiment: Experiment, train: Mapping[str, EventFiles], keys: np.ndarray, mine: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of items that stand near one another in the pasts of some row groups of training, the row's own item behind its past where
    domains have no labels that could say it was not taken.

    Args:
        experiment: the experiment.
        train: domain -> its training events.
        keys: ``[C]`` uint64 of the items.
        mine: which of the row groups, of all domains one after the other.

    Returns:
        ``[P]`` int64 pairs, the smaller position times C plus the larger, rising, each once; and ``[P]`` int64 how often.
    """
    history = experiment.entities.user.history
    if history is None:
        raise UserError(
            "codes", "are made of which items are together, and rows have no history", "Describe entities.user.history."
        )
    index, item = KeyIndex(keys), experiment.entities.item.id
    groups = [
        (name, *group) for name, files in train.items() if experiment.domains[name].users for group in files.row_groups
    ]
    pairs, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    pending: list[np.ndarray] = []
    for name, path, group in groups[mine]:
        needs = needed_columns(experiment, name)
        table = read_good_rows(path, group, needs, [history.column, item], experiment.bad_data)
        past, offsets = ragged_keys(table[history.column], history.max_length)
        if not experiment.domains[name].tasks:
            own, there = id_keys(table[item])
            past = np.insert(past, offsets[1:][there], own[there])
            offsets = offsets + np.concatenate([[0], np.cumsum(there)])
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        at = index.lookup(past).astype(np.int64)
        for step in range(1, _NEAR + 1):
            here, there = at[:-step], at[step:]
            near = (row[:-step] == row[step:]) & (here >= 0) & (there >= 0) & (here != there)
            pending.append(np.minimum(here, there)[near] * len(keys) + np.maximum(here, there)[near])
        if sum(map(len, pending)) > max(_PENDING, len(pairs)):  # so each pair is merged a few times at most
            pairs, counts = _added((pairs, counts), *((some, None) for some in pending))
            pending = []
    return _added((pairs, counts), *((some, None) for some in pending))


def _added(*parts: tuple[np.ndarray, np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    every = np.concatenate([pairs for pairs, _ in parts])
    weights = np.concatenate([np.ones(len(pairs), np.int64) if of is None else of for pairs, of in parts])
    distinct, at = np.unique(every, return_inverse=True)
    return distinct, np.bincount(at, weights, len(distinct)).astype(np.int64)


def graph_of(parts: list[tuple[np.ndarray, np.ndarray]], items: int) -> Graph:
    """The graph of C items by the pairs, as of `pairs_of`, that several ranks have found."""
    pairs, counts = _added(*parts)
    low, high = pairs // items, pairs % items
    source, other = np.concatenate([low, high]), np.concatenate([high, low])
    weight = np.concatenate([counts, counts]).astype(np.float32)
    order = np.lexsort((other, source))
    first = np.searchsorted(source[order], np.arange(items + 1))
    return Graph(first, other[order], weight[order])


def leading_places(graph: Graph, dimension: int, generator: torch.Generator) -> Tensor:
    """``[C, D]`` float32 places of items in the graph: its leading directions, as spectral clustering takes them (Ng, Jordan and Weiss,
    2001), by subspace iteration (Halko et al., 2011). Lengths are 1; zeros for an item that is with no other.

    Args:
        graph: of C items.
        dimension: D.
        generator: of what the iteration begins with.
    """
    items = len(graph.first) - 1
    degrees = torch.from_numpy(graph.degrees)
    scale = torch.where(degrees > 0, degrees.clamp_min(1e-12).rsqrt(), 0)
    rows = torch.from_numpy(np.repeat(np.arange(items), np.diff(graph.first)))
    other = torch.from_numpy(graph.other)
    weights = torch.from_numpy(graph.weight).double() * scale[rows] * scale[other]
    adjacency = torch.sparse_coo_tensor(
        torch.stack([rows, other]), weights, (items, items), check_invariants=False
    ).coalesce()
    basis = torch.randn(items, min(dimension, items), generator=generator, dtype=torch.float64)
    for _ in range(_FEW_STEPS):
        # (A + I) / 2 has no negative eigenvalues: what is like opposite sides of a bridge does not lead.
        basis, _ = torch.linalg.qr((torch.sparse.mm(adjacency, basis) + basis) / 2)
    basis = basis * (degrees > 0)[:, None]
    return (basis / basis.norm(dim=1, keepdim=True).clamp_min(1e-12)).float()
