"""Vectors of a content in a form in which cosines tell: few directions, those in which the catalog differs most, all spread alike."""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrow.values import vector_rows
from ..catalogs.catalog import read_catalog
from ..config.experiment import Experiment
from ..config.sections.entities import Stored
from ..content_kinds.vector import Vector
from .conditioning import mean_and_covariance
from .content_store import open_store, store_folder

DIRECTIONS = 64
_SHRINKAGE = 0.1

Directions = Annotated[
    NDArray[np.float32],
    "[D, 1 + K]: the mean of the vectors, and beside it what each of K directions takes of D values",
]


def directions_of(experiment: Experiment) -> dict[str, Directions]:
    """Content of items -> its directions in the catalog as it is, of those that a model compares with past items."""
    found, item = {}, experiment.entities.item
    for name in experiment.compared() if experiment.model.similarity is not None else ():
        content = item.every_content()[name]
        if isinstance(content, Vector):
            assert item.catalog is not None
            where = f"{item.catalog.path}: column '{content.vector}'"
            vectors, there = vector_rows(
                read_catalog("item", item, [content.vector])[content.vector], content.size, where
            )
            found[name] = leading_directions(torch.from_numpy(vectors), np.flatnonzero(there))
        else:
            store = open_store(store_folder(experiment, Stored("item", name)))
            found[name] = leading_directions(store.vectors, store.row_of_key)
    return found


def leading_directions(vectors: Tensor, rows: NDArray[np.int64]) -> Directions:
    """The principal directions of a catalog's vectors that have the largest variances, each divided by its deviation.

    Vectors of sentence encoders lie in a narrow cone: cosines of what they are, whatever it is about, are all near one number. Without
    their mean, and whitened (Su et al., 2021), those of any two are spread around 0, by about the root of 1 / K. Variances are
    drawn towards their mean first, by a tenth, so that what hardly varies is not blown up.

    Args:
        vectors: ``[N, D]`` float16 or float32, which may be mapped; a block is read at a time.
        rows: int64 rows of these that count. Above 100,000, every so manieth is looked at.

    Returns:
        Float32, with K at most `DIRECTIONS`, and none that varies less than rounding does.
    """
    mean, covariance, _ = mean_and_covariance(vectors, np.unique(rows))
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0)[:DIRECTIONS], directions.flip(1)[:, :DIRECTIONS]
    there = variances > 1e-6 * (covariance.trace() + mean @ mean)  # float16 rounds by a thousandth
    variances, directions = variances[there], directions[:, there]
    # A direction's sign is the library's choice, and no cosine depends on it.
    shrunk = (1 - _SHRINKAGE) * variances + _SHRINKAGE * variances.mean()
    return torch.cat([mean[:, None], directions / shrunk.sqrt()], 1).float().numpy()


def along(directions: Directions, vectors: Tensor) -> Tensor:
    """``[N, K]`` float32 of length 1: what ``[N, D]`` vectors are along directions; zeros for one that is the mean itself."""
    mean, matrix = torch.from_numpy(directions[:, 0].copy()), torch.from_numpy(directions[:, 1:].copy())
    return torch.nn.functional.normalize((vectors.float() - mean) @ matrix, dim=1)
