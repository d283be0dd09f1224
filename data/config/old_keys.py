"""Keys of older versions, and where they are now; and what runs were that older versions made."""

from collections.abc import Container
from typing import Any

from ..errors import UserError
from ..settings_base import Strict
from .effects import is_given
from .places import section_at

OLD_KEYS = {
    "model.experts": "model.head.experts",
    "model.expert_widths": "model.head.widths",
    "model.tower_widths": "model.head.tower_widths",
    "model.dropout": "model.head.dropout",
    "training.weight_decay": "training.optimizer.weight_decay",
    "training.warmup_share": "training.schedule.warmup_share",
    "training.final_lr_share": "training.schedule.final_lr_share",
}


BEFORE = {
    "model.unknown_id": "masked",
    "model.hide_rare_items": 0.0,
    "model.content_conditioning": "none",
    "model.rates": False,
}
"""Keys that older versions lacked, and what models did before there were these. A run's file has every key with an effect."""


def take_over_old_runs(raw: dict[str, Any], root: type[Strict], useless: Container[str]) -> list[str]:
    """Adds to a run's file what the version that made it did not know, with the value that it meant.

    Args:
        raw: what the file says.
        root: the experiment's type.
        useless: keys that have no effect in it, which today's runs lack, too.

    Returns:
        The keys.
    """
    lacking = [key for key in BEFORE if key not in useless and not is_given(raw, key)]
    for key in lacking:
        *section, name = key.split(".")
        if (into := section_at(raw, root, section)) is not None:  # what is no section has been told by then
            into[name] = BEFORE[key]
    return lacking


def says(experiment: Strict, key: str) -> bool:
    """Whether an experiment says one of `BEFORE`, or leaves it to the default."""
    *section, name = key.split(".")
    for part in section:
        experiment = getattr(experiment, part)
    return name in experiment.model_fields_set


def take_over_old_keys(raw: dict[str, Any], root: type[Strict], where: str) -> dict[str, str]:
    """Moves what a file has under old keys to where it is now.

    Returns:
        key of today -> the old one it was written under.

    Raises:
        UserError: both are there.
    """
    moved = {}
    for old, new in OLD_KEYS.items():
        (*parents, last), (*section, name) = old.split("."), new.split(".")
        at: Any = raw
        for part in parents:
            at = at.get(part) if isinstance(at, dict) else None
        if not isinstance(at, dict) or last not in at:
            continue
        value = at.pop(last)
        into = section_at(raw, root, section)
        if into is None:  # what is there is wrong, and told when it is read
            continue
        if name in into:
            raise UserError(f"{where}: {old}", f"is the old key of {new}, which is there too", f"Remove {old}.")
        into[name] = value
        moved[new] = old
    return moved
