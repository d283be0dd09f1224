"""Maximum mean discrepancy."""

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from ...data.settings_base import Strict
from ..layers.domain_rows import DomainRows, domain_rows
from ..layers.fast import fast_on_gpu
from .js import MIN_ROWS

MMD_ROWS = 64


class MMD(Strict):
    """Maximum mean discrepancy with five RBF kernels, the mean over pairs of domains (Gretton et al., 2012)."""

    kind: Literal["mmd"] = "mmd"

    def penalty(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """A scalar; arguments as in `alignments`."""
        if fast_on_gpu(z):
            return mmd_on_gpu(z, domain_rows(domain_lengths, z.device))
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
    distances = _distances(samples)
    kernel = _kernel(distances, distances.detach().mean())
    blocks = torch.stack([rows.mean(0) for rows in kernel.split(sizes)])
    means = torch.stack([columns.mean(1) for columns in blocks.split(sizes, 1)], 1)
    pairs = [means[i, i] + means[j, j] - 2 * means[i, j] for i, j in combinations(range(len(sizes)), 2)]
    return torch.stack(pairs).mean()


def mmd_on_gpu(z: Tensor, rows: DomainRows) -> Tensor:
    """`mmd` by what the device knows of the domains' rows: each has `MMD_ROWS` samples, some of which count for nothing."""
    if not len(z):
        return z.new_zeros(())
    counts = rows.counts.long()
    every = torch.arange(MMD_ROWS, device=z.device) * counts.add(MMD_ROWS - 1).floor_divide(MMD_ROWS)
    takes_part = counts >= MIN_ROWS
    there = (every < counts) & takes_part  # [domains, MMD_ROWS]
    at = (rows.ends[:, None] - counts + every).clamp(0, len(z) - 1)
    samples, valid = z.index_select(0, at.flatten()), there.view(-1, 1).to(z.dtype)
    some = valid.sum().clamp_min(1)
    samples = (samples - (samples.detach() * valid).sum(0) / some) * valid
    distances = _distances(samples)
    kernel = _kernel(distances, (valid.t() @ distances.detach() @ valid).squeeze() / some.square())
    shares = there / there.sum(1, keepdim=True).clamp_min(1)
    of_domains = torch.eye(len(rows), device=z.device).repeat_interleave(MMD_ROWS, 1) * shares.view(1, -1)
    means = of_domains @ kernel @ of_domains.t()
    pairs = takes_part & takes_part.t()
    itself = means.diagonal()
    return ((itself[:, None] + itself - 2 * means) * pairs).sum() / (pairs.sum() - takes_part.sum()).clamp_min(1)


def _distances(samples: Tensor) -> Tensor:
    """``[N, N]`` squared distances of ``[N, K]``."""
    norms = samples.square().sum(1)
    return (norms[:, None] + norms - 2 * samples @ samples.T).clamp_min(0)


def _kernel(distances: Tensor, mean: Tensor) -> Tensor:
    """``[N, N]``, the mean of five RBF kernels, of squared distances and their mean, a scalar."""
    widest = torch.exp(-distances / (4 * mean).clamp_min(1e-12))
    kernel, power = widest, widest
    for _ in range(4):  # half the bandwidth is the square of the kernel
        power = power * power
        kernel = kernel + power
    return kernel / 5
