"""The worlds that can be simulated."""

from pathlib import Path

from ..errors import UserError, nearest
from .market import simulate_market
from .platform import simulate_platform

WORLDS = {"platform": simulate_platform, "market": simulate_market}
"""Name -> writes one into a new folder, with a number of rows and a seed; gives the experiment's file."""


def simulate(out: str | Path, rows: int | None = None, seed: int = 2026, world: str = "platform") -> Path:
    """Simulates logs whose truth is known.

    Args:
        out: a new folder for events, catalogs and experiment.yaml.
        rows: events, of all domains together; 600,000 of a platform and 200,000 of a market when absent.
        seed: of everything random; the same seed gives the same files.
        world: ``platform``: seven search and recommendation domains with texts, cold items and clicks; ``market``: small, with
            labels of every kind.

    Returns:
        The experiment file.

    Raises:
        UserError: no such world, too few rows, or something in the folder already.
    """
    if world not in WORLDS:
        raise UserError("--world", f"'{world}' cannot be simulated", nearest(world, WORLDS))
    write = WORLDS[world]
    return write(out, seed=seed) if rows is None else write(out, rows, seed)
