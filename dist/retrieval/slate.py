"""What a user may ask of a list of items: that it is chosen from the best, and not of one kind."""

from dataclasses import dataclass

from ...data.errors import UserError, nearest

METHODS = ("mmr", "dpp")
_POOL = 5
"""How many times as many items as a list has places it is chosen from, unless a user says."""


@dataclass(frozen=True)
class Slate:
    """How the best items are put into a list.

    Attributes:
        method: one of `METHODS`.
        weight: of diversity against relevance, above 0 and up to 1.
        pool: how many of the best items a list is chosen from.
    """

    method: str
    weight: float
    pool: int


def slate_of(
    diversity: str | None, weight: float | None, pool: int | None, k: int, alike: str | None = None
) -> Slate | None:
    """What ``--diversity``, ``--diversity-weight`` and ``--pool`` ask for, for lists of k items; None where that is their order by score.

    ``alike`` is what ``--alike-by`` names, where that is for slates alone.

    Raises:
        UserError: no such method, a weight that is not from 0 to 1, a pool of fewer than k items, or one of the others without ``diversity``.
    """
    if diversity is None:
        for option, given in (("--diversity-weight", weight), ("--pool", pool), ("--alike-by", alike)):
            if given is not None:
                raise UserError(f"{option} {given}", "says nothing without --diversity", "Add --diversity mmr or dpp.")
        return None
    if diversity not in METHODS:
        raise UserError("--diversity", f"'{diversity}' is none of {', '.join(METHODS)}", nearest(diversity, METHODS))
    if weight is None or not 0 <= weight <= 1:
        what = "needs --diversity-weight" if weight is None else f"has a weight of {weight:g}"
        remedy = "Give a --diversity-weight from 0, relevance alone, to 1, diversity alone."
        raise UserError(f"--diversity {diversity}", what, remedy)
    if pool is not None and pool < k:
        raise UserError(f"--pool {pool}", f"has fewer items than a list, {k}", f"Give {k} or more.")
    return Slate(diversity, float(weight), _POOL * k if pool is None else pool) if weight else None
