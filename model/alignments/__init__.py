"""Penalties on the difference between the domains' distributions of z in a batch.

The S&R Multi-Domain Foundation (CIKM 2023) names Jensen-Shannon and MMD; how the distributions are estimated from a
batch is this project's reconstruction. Each ``penalty`` takes

    z               [B, K] float32, rows grouped by domain
    domain_lengths  rows per domain, zeros included

and returns a scalar. A domain with fewer than `MIN_ROWS` rows does not take part; with fewer than two left it is 0.
"""

from ...data.settings_base import Strict
from .js import JS
from .mmd import MMD
from .none import NoAlignment

ALIGNMENTS: dict[str, type[Strict]] = {"js": JS, "mmd": MMD, "none": NoAlignment}
