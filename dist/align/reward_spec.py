"""What a reward is, as it is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from ...data.errors import UserError
from ...data.storage.file_systems import Location
from ..promote.promote import current_run

HITS, NOISE = "hits", "noise"


@dataclass(frozen=True)
class RewardSpec:
    """What says how good a candidate is.

    Attributes:
        name: as it was asked for.
        run: the run whose scores it is; of a folder that one was promoted to, or that is updated, the one in use now.
        table: Parquet file of users, items and rewards.
        weights: task -> its weight; none: all tasks of a domain, with weight 1.
    """

    name: str
    run: Location | None = None
    table: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


def reward_spec(asked: str, weights: str) -> RewardSpec:
    """From what the command line says: ``hits``, ``noise``, a Parquet file, or a run.

    Raises:
        UserError: weights that are none, or that nothing takes; or a run is not what was promoted.
    """
    found: dict[str, float] = {}
    for part in (part.strip() for part in weights.split(",") if part.strip()):
        task, _, value = part.partition("=")
        try:
            found[task.strip()] = float(value)
        except ValueError:
            found[task.strip()] = float("nan")
        if not isfinite(found[task.strip()]) or not task.strip():
            raise UserError("--weights", f"'{part}' is no TASK=NUMBER", "Write e.g. --weights click=1,buy=3.")
    is_run = asked not in (HITS, NOISE) and not asked.endswith(".parquet")
    if found and not is_run:
        raise UserError("--weights", f"is of a run's tasks, and --reward is {asked}", "Leave it out.")
    table = asked if asked.endswith(".parquet") else None
    return RewardSpec(asked, current_run(asked) if is_run else None, table, found)
