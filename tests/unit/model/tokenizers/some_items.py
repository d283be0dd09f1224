"""Items made up for a method, on one rank or on several that are threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch

from foundrank.data.arrow.ids import mix
from foundrank.model.tokenizers.items import Items
from tests.coded_world import clustered

_T = TypeVar("_T")
NO_COLUMNS = pa.table({})


def items_of(x: np.ndarray | torch.Tensor, seed: int = 0, keys: np.ndarray | None = None, **more: Any) -> Items:
    """Items with these vectors ``[C, d]``."""
    vectors = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    keys = mix(np.arange(len(vectors), dtype=np.uint64)) if keys is None else keys
    return Items(keys, lambda at: vectors[torch.from_numpy(at)], more.pop("columns", NO_COLUMNS), seed, **more)


def clusters(items: int = 300, width: int = 8, many: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(clustered(items, width, many, seed))


def on_ranks(ranks: int, x: torch.Tensor, work: Callable[[Items], _T]) -> list[_T]:
    """What ``work`` gives on each of some ranks, which share out the blocks."""
    parts: list[np.ndarray] = [np.zeros(0)] * ranks
    meeting = threading.Barrier(ranks, timeout=30)

    def rank(number: int) -> _T:
        def add_up(values: np.ndarray) -> np.ndarray:
            parts[number] = values
            meeting.wait()
            total = np.sum(parts, axis=0)
            meeting.wait()
            return total

        return work(items_of(x, mine=lambda block: block % ranks == number, add_up=add_up))

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(rank, range(ranks)))
