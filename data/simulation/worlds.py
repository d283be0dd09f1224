"""The worlds that can be simulated."""

from collections.abc import Callable
from pathlib import Path

from ..errors import UserError, nearest
from .days import simulate_days
from .market import simulate_market
from .platform import simulate_platform

WORLDS: dict[str, Callable[..., Path]] = {
    "platform": simulate_platform,
    "market": simulate_market,
    "days": simulate_days,
}
"""Name -> writes one into a new folder, with a number of rows and a seed, and one with a number of days; gives the experiment's file."""


def simulate(
    out: str | Path, rows: int | None = None, seed: int = 2026, world: str | None = None, days: int | None = None
) -> Path:
    """Simulates logs whose truth is known.

    Args:
        out: a new folder for events, catalogs and experiment.yaml.
        rows: events, of all domains together; 600,000 of a platform, 200,000 of a market and 300,000 of days when absent.
        seed: of everything random; the same seed gives the same files.
        world: ``platform``: seven search and recommendation domains with texts, cold items and clicks; ``market``: small, with
            labels of every kind; ``days``: a feed in which items and users come and go and tastes move. When absent, ``days``
            where their number is given, and else ``platform``.
        days: how many, at least 4, of the world ``days`` alone; 30 when absent.

    Returns:
        The experiment file.

    Raises:
        UserError: no such world, too few rows or days, days of another world, or something in the folder already.
    """
    world = world or ("platform" if days is None else "days")
    if world not in WORLDS:
        raise UserError("--world", f"'{world}' cannot be simulated", nearest(world, WORLDS))
    if days is not None and world != "days":
        raise UserError(
            "--days",
            f"{days} is given for '{world}', which has no number of days",
            "Give --world days, or leave --days out.",
        )
    given = {name: value for name, value in {"rows": rows, "days": days}.items() if value is not None}
    return WORLDS[world](out, seed=seed, **given)
