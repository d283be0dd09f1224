"""Jensen-Shannon divergence."""

from typing import Literal

from torch import Tensor

from ...data.settings_base import Strict
from ..layers.domain_rows import domain_members, domain_sums

MIN_ROWS = 2


class JS(Strict):
    """Jensen-Shannon divergence between softmax distributions over the coordinates of z (Lin, 1991)."""

    kind: Literal["js"] = "js"

    def penalty(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """A scalar; arguments as in `alignments`."""
        return js_divergence(z, domain_lengths)


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


def _entropy(p: Tensor) -> Tensor:
    """Over the last axis, in nats. The floor keeps the gradient finite where a softmax underflowed to 0."""
    return -(p * p.clamp_min(1e-30).log()).sum(-1)
