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
        self._wanted = [key for group in groups for key in group]
        self._sizes = [len(group) for group in groups]
        self._places: dict[tuple[tuple[str, ...], torch.device], tuple[Tensor | None, Tensor | None]] = {}

    def __call__(self, pooled: KeyedTensor, batch: Batch) -> "Together":
        """The lookups of B rows; arguments as of `looked_up`."""
        values, of_batch = pooled.values(), lengths(batch, self.layout)
        width = values.shape[1] // len(pooled.keys())
        at, rows = self._places_in(tuple(pooled.keys()), values.device)
        of_batch = of_batch if rows is None else of_batch.index_select(0, rows)
        counts = of_batch[:, : batch.rows].clamp_min(1).t().unsqueeze(2)
        return Together(zip(self.groups, _Pieces.apply(values, counts, at, width, self._sizes), strict=True))

    def _places_in(self, keys: tuple[str, ...], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """Where the wanted keys stand in what is pooled, which is the plan's affair and stays, and in the batch; None where that is in
        their own order."""
        if (keys, device) not in self._places:
            self._places[keys, device] = self._place(keys, device), self._place(self.layout.keys, device)
        return self._places[keys, device]

    def _place(self, among: Sequence[str], device: torch.device) -> Tensor | None:
        places = [among.index(key) for key in self._wanted]
        return None if places == [*range(len(among))] else torch.tensor(places, device=device)


class Together(dict[Any, Tensor]):
    """Keys that are taken together -> ``[B, their widths]``; one that is taken alone goes by its name, too."""

    def __missing__(self, key: Any) -> Tensor:
        if isinstance(key, tuple):
            raise KeyError(key)
        return self[(key,)]


def side_by_side(pooled: Mapping[Any, Tensor], keys: tuple[str, ...]) -> list[Tensor]:
    """The lookups of some keys in their order, one by one or together."""
    return [pooled[keys]] if isinstance(pooled, Together) and keys else [pooled[key] for key in keys]


class _Pieces(torch.autograd.Function):
    """Of sums ``[P, keys x D]`` the means of B rows, of keys at some places, cut into groups; lengths ``[B, wanted keys, 1]``."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, counts: Tensor, at: Tensor | None, width: int, sizes: list[int]
    ) -> tuple[Tensor, ...]:
        rows = len(counts)
        ctx.save_for_backward(counts)
        ctx.at, ctx.shape = at, values.shape
        means = values[:rows].unflatten(1, (-1, width))
        means = (means if at is None else means.index_select(1, at)) / counts
        return means.flatten(1).split_with_sizes([size * width for size in sizes], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (counts,) = ctx.saved_tensors
        gradient = torch.cat(gradients, 1).unflatten(1, (counts.shape[1], -1)) / counts
        if ctx.at is None:
            return F.pad(gradient.flatten(1), (0, 0, 0, ctx.shape[0] - len(counts))), None, None, None, None
        every = gradient.new_zeros(ctx.shape).unflatten(1, (-1, gradient.shape[2]))
        every[: len(counts)].index_copy_(1, ctx.at, gradient)
        return every.flatten(1), None, None, None, None


def list_lengths(batch: Batch, layout: Layout, key: str) -> Tensor:
    """``[B, 1]``: how many ids each row has under a key, at least 1."""
    return lengths(batch, layout)[layout.keys.index(key), : batch.rows, None].clamp_min(1)


def lengths(batch: Batch, layout: Layout) -> Tensor:
    """``[keys, P]``: how many ids there are, in the order of ``layout.keys``."""
    return batch.sparse.lengths().view(len(layout.keys), batch.sparse.stride())
