"""Conditioning of content vectors: out of the narrow cone in which encoders leave them, and all directions spread alike."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_MOST = 100_000  # rows looked at, spread evenly over all
_BLOCK = 1 << 12  # rows at a time
_LEAST_SHRINKAGE = 0.5
_NOTHING = 1e-9  # share of the vectors' squared length below which their variance is rounding
_PAIRS = 10_000


@dataclass(frozen=True)
class Conditioning:
    """A map of vectors ``v [..., D]``: ``(v - mean) @ matrix``.

    Attributes:
        mean: ``[D]`` float32.
        matrix: ``[D, D]`` float32, symmetric, so that directions stay where they are and vectors of several entities can still
            be compared.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def none(cls, size: int) -> "Conditioning":
        """What changes nothing."""
        return cls(torch.zeros(size), torch.eye(size))


def fitted(vectors: Tensor, rows: np.ndarray, whiten: bool) -> Conditioning:
    """Centres vectors and gives them a mean squared length of 1; whitens them, where that is asked for.

    Whitening (Su et al., 2021; as a layer of recommenders: UniSRec, Hou et al., 2022) divides each principal direction by its
    deviation. Variances are first drawn towards their mean, by half or, of few vectors, by D / (D + N): directions in which texts
    hardly differ say little of new ones, and are not blown up.

    Args:
        vectors: ``[N, D]`` float16 or float32, which may be mapped; a block is read at a time.
        rows: int64 rows of these that count; those of distinct contents. Above 100,000, every so manieth is looked at.
        whiten: False: centres alone.

    Returns:
        What vectors of later catalogs go through as well. Nothing, where all vectors are the same or there is none.
    """
    size, (mean, covariance, count) = vectors.shape[1], mean_and_covariance(vectors, rows)
    spread = float(covariance.trace())
    if spread <= _NOTHING * (spread + float(mean @ mean)):
        return Conditioning.none(size)
    if not whiten:
        return Conditioning(mean.float(), torch.eye(size) / spread**0.5)
    variances, directions = torch.linalg.eigh(covariance)
    shrinkage = max(_LEAST_SHRINKAGE, size / (size + count))
    shrunk = (1 - shrinkage) * variances.clamp_min(0) + shrinkage * spread / size
    length = float((variances.clamp_min(0) / shrunk).sum()) ** 0.5
    return Conditioning(mean.float(), ((directions / shrunk.sqrt()) @ directions.T / length).float())


def mean_and_covariance(vectors: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
    """Of vectors, arguments as of `fitted`: float64 ``[D]`` and ``[D, D]``; and how many were looked at, at least 1."""
    rows = rows[:: -(-len(rows) // _MOST) or 1]
    size, count = vectors.shape[1], max(len(rows), 1)
    total, products = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for start in range(0, len(rows), _BLOCK):
        block = vectors[torch.from_numpy(rows[start : start + _BLOCK])].double()
        total += block.sum(0)
        products += block.T @ block
    mean = total / count
    return mean, products / count - torch.outer(mean, mean), count


def mean_cosine(vectors: Tensor, conditioning: Conditioning | None = None) -> float | None:
    """The mean cosine of random pairs of different rows of ``[N, D]``: near 1 where all lie in a narrow cone, near 0 where they
    point everywhere. The pairs are the same in every process. None, where there are none; rows of zeros count nowhere.

    Args:
        vectors: float16 or float32, which may be mapped.
        conditioning: what they go through first.
    """
    if len(vectors) < 2:
        return None
    rng = np.random.default_rng(0)
    ours = rng.integers(0, len(vectors), _PAIRS)
    others = (ours + rng.integers(1, len(vectors), _PAIRS)) % len(vectors)
    total, pairs = 0.0, 0
    for start in range(0, _PAIRS, _BLOCK):
        a, b = (vectors[torch.from_numpy(rows[start : start + _BLOCK])].double() for rows in (ours, others))
        there = (a != 0).any(1) & (b != 0).any(1)
        if conditioning is not None:
            mean, matrix = conditioning.mean.double(), conditioning.matrix.double()
            a, b = (a - mean) @ matrix, (b - mean) @ matrix
        lengths = a.norm(dim=1) * b.norm(dim=1)
        there &= lengths > 0
        total += float(((a * b).sum(1) / lengths.clamp_min(1e-300))[there].sum())
        pairs += int(there.sum())
    return total / pairs if pairs else None
