"""The locations that an experiment names."""

from collections.abc import Callable
from typing import Any

from .experiment import Experiment


def change_locations(raw: dict[str, Any], change: Callable[[str], str]) -> None:
    """Puts ``change(location)`` in place of each location of an experiment's plain dict: of events, catalogs, text vectors and
    the run to begin with. A text encoder is not one: what vectors were made with is told by its name."""
    if raw.get("init_from") is not None:
        raw["init_from"] = change(raw["init_from"])
    for entity in raw["entities"].values():
        if entity is not None and entity.get("catalog") is not None:
            entity["catalog"]["path"] = change(entity["catalog"]["path"])
    for domain in raw["domains"].values():
        events = domain["events"]
        domain["events"] = {split: pattern and change(pattern) for split, pattern in events.items()}
    raw["text"]["store"] = change(raw["text"]["store"])


def with_locations(experiment: Experiment, change: Callable[[str], str]) -> Experiment:
    """The experiment with ``change(location)`` in place of each location."""
    raw = experiment.model_dump(mode="json", exclude_none=True)
    change_locations(raw, change)
    return type(experiment).model_validate(raw)


def locations(experiment: Experiment) -> list[str]:
    """All locations of an experiment, in an order of their own."""
    found: list[str] = []

    def note(location: str) -> str:
        found.append(location)
        return location

    with_locations(experiment, note)
    return found
