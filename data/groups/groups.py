"""The groups of a batch, and the columns of events that hold them: what `foundrank align` writes and a fine-tuning reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..arrow.ids import id_keys
from ..arrow.values import Ragged, ragged_lists
from ..errors import UserError
from ..schema.groups import CANDIDATES, REFERENCE, REWARD

ROWS, CODES = "rows", "codes"
RowsOf = Callable[[np.ndarray], np.ndarray]
"""Id keys -> rows of some table."""


@dataclass
class Groups:
    """Up to G candidates of each of B rows.

    Attributes:
        rows: ``[B, G]`` int64 rows of the item table; 0 for one never seen in training.
        codes: ``[B, G, M]`` int64, where items are found by codes; else None.
        reference: ``[B, G]`` float32, the log-probability that the generator gave each, up to a constant of the row.
        rewards: ``[B, G]`` float32.
        there: ``[B, G]`` bool, whether there is a candidate, and it has a reward.
    """

    rows: Tensor
    codes: Tensor | None
    reference: Tensor
    rewards: Tensor
    there: Tensor

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Groups":
        """With ``change`` applied to all tensors."""
        return replace(self, **{name: change(value) for name, value in self._tensors().items()})

    def tensors(self) -> list[Tensor]:
        """All of them."""
        return list(self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if value is not None}


def read_groups(table: pa.Table, where: str, rows_of: RowsOf, codes_of: RowsOf | None) -> dict[str, Ragged]:
    """What is known of the candidates of some rows, ragged, by name: ``ROWS`` int64 rows of the item table, ``CODES`` int64 rows of the codes,
    where items have some; reference and reward float32, a null being NaN.

    Args:
        table: with the columns of `groups`.
        where: file and row group, for errors.
        rows_of: id keys -> rows of the item table.
        codes_of: the same -> rows of the table of codes, -1 for none; None where items are found by their vectors.

    Raises:
        UserError: a row has more or fewer numbers than candidates.
    """
    ids, offsets = ragged_lists(table[CANDIDATES])
    found: dict[str, Ragged] = {}
    for name in (REFERENCE, REWARD):
        values, of_these = ragged_lists(table[name])
        if not np.array_equal(of_these, offsets):
            row = int(np.argmax(np.diff(of_these) != np.diff(offsets)))
            what = f"has {of_these[row + 1] - of_these[row]} values, and {offsets[row + 1] - offsets[row]} candidates"
            remedy = "Take the files as `foundrank align` writes them."
            raise UserError(f"{where}: column '{name}', row {row}", what, remedy)
        found[name] = values.cast(pa.float32()).to_numpy(zero_copy_only=False), offsets
    keys, valid = id_keys(ids)
    found[ROWS] = np.where(valid, rows_of(keys), 0).astype(np.int64), offsets
    if codes_of is not None:
        found[CODES] = np.where(valid, codes_of(keys), -1).astype(np.int64), offsets
    return found


def groups_of(parts: Sequence[Mapping[str, Ragged]], rows: Sequence[int], codes: Tensor | None) -> Groups | None:
    """The groups of a batch; None where no part has any.

    Args:
        parts: of each part, as of `Rows.groups`; empty for one without candidates.
        rows: of each part, how many.
        codes: ``[codes of all items, M]``, the rows that ``CODES`` names; None: items are found by vectors.
    """
    if not any(parts):
        return None
    lengths = np.concatenate(
        [np.diff(part[ROWS][1]) if part else np.zeros(n, np.int64) for part, n in zip(parts, rows, strict=True)]
    )
    most = int(lengths.max(initial=1))
    place = np.arange(most)[None] < lengths[:, None]

    def padded(name: str, missing: float, kind: type) -> np.ndarray:
        out = np.full(place.shape, missing, kind)
        of_parts = [values[offsets[0] : offsets[-1]] for part in parts if part for values, offsets in [part[name]]]
        out[place] = np.concatenate(of_parts)
        return out

    reference, rewards = (padded(name, np.nan, np.float32) for name in (REFERENCE, REWARD))
    there = np.isfinite(reference) & np.isfinite(rewards)
    of_items = None
    if codes is not None:
        at = padded(CODES, -1, np.int64)
        there &= at >= 0
        of_items = codes[torch.from_numpy(np.maximum(at, 0))].long()
    return Groups(
        rows=torch.from_numpy(padded(ROWS, 0, np.int64)),
        codes=of_items,
        reference=torch.from_numpy(np.where(there, reference, 0)),
        rewards=torch.from_numpy(np.where(there, rewards, 0)),
        there=torch.from_numpy(there),
    )
