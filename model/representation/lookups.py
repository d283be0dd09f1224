"""What the tables say of a batch: by key, and of lists as means.

TorchRec pools alike under every sharding plan only by sum: its means are divided by the lengths of lists once, twice or never,
as tables cut by rows and whole ones meet in a plan. And where in the result a key stands is the plan's affair. So tables
are pooled by sum, a key's lookup is taken by its name, and here a list's sum becomes its mean. Weights of a list's ids are on the mean 1 in each
row, so that the same division makes the weighted mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.schema.layout import Layout


def looked_up(
    pooled: KeyedTensor, batch: Batch, layout: Layout, keys: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """The lookups of B rows.

    Args:
        pooled: key -> ``[P, embedding_dim]`` sums, P >= B; rows B and beyond are padding.
        batch: B rows.
        layout: of the batch.
        keys: those that are wanted, in this order; all when None.

    Returns:
        key -> ``[B, embedding_dim]``: the id's row of the table, the mean of a list's; zeros where there is none.
    """
    found = dict(zip(pooled.keys(), pooled.values()[: batch.rows].split(pooled.length_per_key(), 1), strict=True))
    if keys is not None:
        found = {key: found[key] for key in keys}
    for key in layout.lists if keys is None else (key for key in keys if key in layout.lists):
        found[key] = found[key] / list_lengths(batch, layout, key)
    return found


class GroupedLookups:
    """As `looked_up`, of keys that are taken together: for GPUs, on which a piece for each key costs the host the most."""

    def __init__(self, layout: Layout, groups: Sequence[tuple[str, ...]]):
        """Args: of the batches; keys that are taken together, each once; those that are wanted alone are groups of one."""
        self.layout, self.groups = layout, list(groups)
        wanted = [key for group in groups for key in group]
        self._order = [*wanted, *(key for key in layout.keys if key not in wanted)]
        self._places: dict[tuple[tuple[str, ...], torch.device], tuple[Tensor | None, ...]] = {}

    def __call__(self, pooled: KeyedTensor, batch: Batch) -> "Together":
        """The lookups of B rows; arguments as of `looked_up`."""
        keys, values = tuple(pooled.keys()), pooled.values()
        if (place := (keys, values.device)) not in self._places:  # the plan's order, which stays
            self._places[place] = self._found(keys, values.device)
        order = [key for key in self._order if key in keys]
        every, back, rows = self._places[place]
        counts = _chosen(lengths(batch, self.layout), 0, rows)[:, : batch.rows].clamp_min(1).t().unsqueeze(2)
        sizes = [len(group) for group in self.groups]
        sizes += [len(order) - sum(sizes)] if len(order) > sum(sizes) else []
        return Together(zip(self.groups, _Pieces.apply(values, counts, every, back, sizes), strict=False))

    def _found(self, keys: tuple[str, ...], device: torch.device) -> tuple[Tensor | None, ...]:
        """Where in what is pooled each key stands, where each of those stands here, and its row of the batch's lengths; None where
        that is its own place."""
        order = [key for key in self._order if key in keys]
        every = [keys.index(key) for key in order]
        places = every, [every.index(at) for at in range(len(every))], [self.layout.keys.index(key) for key in order]
        return tuple(
            None if place == [*range(len(place))] else torch.tensor(place, device=device)
            for place in (places[0], places[1], [*places[2], *range(len(order), len(self.layout.keys))])
        )


class Together(dict[tuple[str, ...], Tensor]):
    """Keys that are taken together -> ``[B, their widths]``."""

    def __missing__(self, key: Any) -> Tensor:
        return self[(key,)]


def side_by_side(pooled: Mapping[Any, Tensor], keys: tuple[str, ...]) -> list[Tensor]:
    """The lookups of some keys in their order, one by one or together."""
    return [pooled[keys]] if isinstance(pooled, Together) and keys else [pooled[key] for key in keys]


class _Pieces(torch.autograd.Function):
    """Of sums ``[P, keys x D]`` the means of B rows, in another order of keys and cut into groups; lengths ``[B, keys, 1]``."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, counts: Tensor, every: Tensor | None, back: Tensor | None, sizes: list[int]
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(counts)
        ctx.padding, ctx.back, width = len(values) - len(counts), back, values.shape[1] // sum(sizes)
        means = _chosen(values[: len(counts)].unflatten(1, (sum(sizes), width)), 1, every) / counts
        return means.flatten(1).split_with_sizes([size * width for size in sizes], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (counts,) = ctx.saved_tensors
        gradient = torch.cat(gradients, 1).unflatten(1, (counts.shape[1], -1)) / counts
        of_keys = _chosen(gradient, 1, ctx.back).flatten(1)
        return F.pad(of_keys, (0, 0, 0, ctx.padding)), None, None, None, None


def _chosen(x: Tensor, axis: int, places: Tensor | None) -> Tensor:
    return x if places is None else x.index_select(axis, places)


def list_lengths(batch: Batch, layout: Layout, key: str) -> Tensor:
    """``[B, 1]``: how many ids each row has under a key, at least 1."""
    return lengths(batch, layout)[layout.keys.index(key), : batch.rows, None].clamp_min(1)


def lengths(batch: Batch, layout: Layout) -> Tensor:
    """``[keys, P]``: how many ids there are, in the order of ``layout.keys``."""
    return batch.sparse.lengths().view(len(layout.keys), batch.sparse.stride())
