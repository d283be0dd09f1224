"""What the tables say of a batch: by key, and of lists as means.

TorchRec pools alike under every sharding plan only by sum: its means are divided by the lengths of lists once, twice or never,
as tables cut by rows and whole ones meet in a plan. And where in the result a key stands is the plan's affair. So tables
are pooled by sum, a key's lookup is taken by its name, and here a list's sum becomes its mean. Weights of a list's ids are on the mean 1 in each
row, so that the same division makes the weighted mean.
"""

from collections.abc import Sequence

from torch import Tensor
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


def list_lengths(batch: Batch, layout: Layout, key: str) -> Tensor:
    """``[B, 1]``: how many ids each row has under a key, at least 1."""
    return lengths(batch, layout)[layout.keys.index(key), : batch.rows, None].clamp_min(1)


def lengths(batch: Batch, layout: Layout) -> Tensor:
    """``[keys, P]``: how many ids there are, in the order of ``layout.keys``."""
    return batch.sparse.lengths().view(len(layout.keys), batch.sparse.stride())
