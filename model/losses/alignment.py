"""Penalties on the difference between the domains' distributions of z in a batch.

The S&R Multi-Domain Foundation (CIKM 2023) names Jensen-Shannon and MMD; how the distributions are estimated from a
batch is this project's reconstruction. Each takes

    z               [B, K] float32, rows grouped by domain
    domain_lengths  rows per domain, zeros included

and returns a scalar. A domain with fewer than `MIN_ROWS` rows does not take part; with fewer than two left it is 0.
"""

from itertools import combinations

import torch
from torch import Tensor

from ..layers.domain_rows import domain_members, domain_sums

MIN_ROWS = 2
MMD_ROWS = 64


def js_divergence(z: Tensor, domain_lengths: list[int]) -> Tensor:
    """Generalised Jensen-Shannon divergence (Lin, 1991): H(mean_d p_d) - mean_d H(p_d), in nats, at most ln(domains).

    p_d, the distribution of domain d over the K coordinates, is the mean of softmax(z) over its rows.
    """
    present = sum(rows >= MIN_ROWS for rows in domain_lengths)
    if present < 2:
        return z.new_zeros(())
    rows = domain_members(domain_lengths, z.device).sum(0)[:, None]
    p, takes_part = domain_sums(z.softmax(1), domain_lengths) / rows.clamp_min(1), (rows >= MIN_ROWS).float()
    return _entropy((p * takes_part).sum(0) / present) - (_entropy(p) * takes_part[:, 0]).sum() / present


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


def no_alignment(z: Tensor, domain_lengths: list[int]) -> Tensor:
    """0."""
    return z.new_zeros(())


ALIGNMENTS = {"js": js_divergence, "mmd": mmd, "none": no_alignment}


def _entropy(p: Tensor) -> Tensor:
    """Over the last axis, in nats. The floor keeps the gradient finite where a softmax underflowed to 0."""
    return -(p * p.clamp_min(1e-30).log()).sum(-1)
