"""Keys of older versions, and where they are now."""

from typing import Any

from ..errors import UserError
from ..settings_base import Strict
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
