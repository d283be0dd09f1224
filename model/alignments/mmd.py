"""Maximum mean discrepancy."""

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from ...data.settings_base import Strict
from .js import MIN_ROWS

MMD_ROWS = 64


class MMD(Strict):
    """Maximum mean discrepancy with five RBF kernels, the mean over pairs of domains (Gretton et al., 2012)."""

    kind: Literal["mmd"] = "mmd"

    def penalty(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """A scalar; arguments as in `alignments`."""
        return mmd(z, domain_lengths)


def mmd(z: Tensor, domain_lengths: list[int]) -> Tensor:
    """Squared maximum mean discrepancy (Gretton et al., 2012), the mean over the pairs of domains.

    Biased estimate (never negative) with the mean of five RBF kernels, whose bandwidths are 1/4 to 4 times the mean
    squared distance, detached. At most `MMD_ROWS` rows of a domain are used, evenly spaced.
    """
    # Slices, not index tensors: nothing has to be copied to the device.
    parts = [rows[:: -(-len(rows) // MMD_ROWS)] for rows in z.split(domain_lengths) if len(rows) >= MIN_ROWS]
    if len(parts) < 2:
        return z.new_zeros(())
    samples, sizes = torch.cat(parts), [len(rows) for rows in parts]
    samples = samples - samples.detach().mean(0)  # same distances, less cancellation
    norms = samples.square().sum(1)
    distances = (norms[:, None] + norms - 2 * samples @ samples.T).clamp_min(0)
    widest = torch.exp(-distances / (4 * distances.detach().mean()).clamp_min(1e-12))
    kernel, power = widest, widest
    for _ in range(4):  # half the bandwidth is the square of the kernel
        power = power * power
        kernel = kernel + power
    blocks = torch.stack([rows.mean(0) for rows in (kernel / 5).split(sizes)])
    means = torch.stack([columns.mean(1) for columns in blocks.split(sizes, 1)], 1)
    pairs = [means[i, i] + means[j, j] - 2 * means[i, j] for i, j in combinations(range(len(sizes)), 2)]
    return torch.stack(pairs).mean()
