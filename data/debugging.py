"""Whether somebody steps through the code: then nothing runs in other threads that need not, and nothing is in a hurry."""

import os

SWITCH = "FOUNDRANK_DEBUG"


def is_debugged() -> bool:
    """Whether it was asked for, with ``--debug`` or the variable of that name."""
    return os.environ.get(SWITCH, "") not in ("", "0")
