"""The items that codes are made of, as a method sees them: in blocks, some of which are each rank's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ...data.arrow.ids import mix

Codebook = dict[str, Tensor]
"""What codes of any item are made with, as a file of it has it."""
BLOCK = 1 << 12
"""Items at a time. How a matrix product rounds depends on its shape, so blocks are the same on any number of ranks."""
FINE = float(1 << 20)
"""Sums over ranks are of whole numbers, in which nothing depends on who adds what: of so manieth parts of one."""
_SAMPLED = np.uint64(0x746F6B656E697A65)


@dataclass(frozen=True)
class Items:
    """C items.

    Attributes:
        keys: ``[C]`` uint64 of their ids.
        vectors: gives ``[n, d]`` float32 of items at positions ``[n]`` int64; None where a method takes none.
        columns: of the catalog, those that a method reads.
        seed: of what is random.
        mine: which of the blocks are this rank's.
        add_up: sums ``[...]`` int64 over ranks; every rank calls it as often.
        told: is called with how many items are done, where that takes a while.
    """

    keys: np.ndarray
    vectors: Callable[[np.ndarray], Tensor] | None
    columns: pa.Table
    seed: int
    mine: Callable[[int], bool] = lambda block: True
    add_up: Callable[[np.ndarray], np.ndarray] = lambda values: values
    told: Callable[[int], None] = lambda items: None

    def __len__(self) -> int:
        return len(self.keys)

    def blocks(self) -> Iterator[np.ndarray]:
        """Positions ``[n]`` int64 of the items of each block that is this rank's."""
        for number, start in enumerate(range(0, len(self), BLOCK)):
            if self.mine(number):
                yield np.arange(start, min(start + BLOCK, len(self)))

    def at(self, positions: np.ndarray) -> Tensor:
        """``[n, d]`` float32 vectors."""
        assert self.vectors is not None
        return self.vectors(positions)

    def some(self, at: np.ndarray) -> "Items":
        """Those at positions ``[n]``."""
        vectors = self.vectors
        of_some = None if vectors is None else lambda positions: vectors(at[positions])
        return replace(self, keys=self.keys[at], vectors=of_some, columns=self.columns.take(pa.array(at)))

    def sample(self, most: int) -> np.ndarray:
        """Positions of as many items, chosen by a hash of their ids: the same on every rank and in any order of the catalog."""
        tells = mix(self.keys ^ _SAMPLED ^ np.uint64(self.seed))
        order = np.argsort(tells, kind="stable")[:most]
        return order.astype(np.int64)

    def generator(self, number: int) -> torch.Generator:
        """Random numbers for what is done ``number``-th."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % (1 << 63))
