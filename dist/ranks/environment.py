"""What the environment says of ranks: read in one place, for schedulers and notebooks leave empty and half of it behind."""

import os

from ...data.errors import UserError

_TOGETHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several."""
    return bool(os.environ.get("RANK") and os.environ.get("WORLD_SIZE"))


def of_machine() -> tuple[int, int]:
    """This rank's number among those of its machine, and how many they are.

    Raises:
        UserError: what the environment says is no number.
    """
    return number("LOCAL_RANK", 0), number("LOCAL_WORLD_SIZE", 1)


def number(name: str, default: int) -> int:
    """The number a variable holds; ``default`` where it is empty or not set.

    Raises:
        UserError: it holds something else.
    """
    value = os.environ.get(name) or str(default)
    if not value.isascii() or not value.isdigit():
        raise UserError(
            name,
            f"is '{value}' in the environment, and no number",
            "Unset it, or give a whole number.",
        )
    return int(value)


def check_launcher(own_store: bool) -> None:
    """Makes sure that a process which is to be one of several knows all it needs of the others.

    Args:
        own_store: whether ranks meet in a file, not at an address.

    Raises:
        UserError: a variable is missing or no number.
    """
    of_machine()
    if not launched():
        return
    for name in () if own_store else _TOGETHER:
        if not os.environ.get(name):
            raise UserError(
                name,
                "is not set, where RANK and WORLD_SIZE say that this is one of several processes",
                "Unset RANK and WORLD_SIZE to run alone, or start ranks with -p or torchrun.",
            )
    number("MASTER_PORT", 0)
    if number("RANK", 0) >= number("WORLD_SIZE", 1):
        raise UserError("RANK", f"is {os.environ['RANK']} of WORLD_SIZE {os.environ['WORLD_SIZE']}", "Count from 0.")
