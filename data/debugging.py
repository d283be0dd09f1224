"""Whether somebody steps through the code: then nothing runs in other threads that need not, and nothing is in a hurry; and whether
a debugger has hold of this process: what stands still there has not stalled."""

import os
import sys
from pathlib import Path

SWITCH = "FOUNDRANK_DEBUG"
# pdb, ipdb and pudb are bdb's; debugpy (VS Code) and PyCharm's are pydevd.
_DEBUGGERS = {"bdb": "pdb", "pydevd": "debugpy", "_pydevd_bundle": "debugpy"}
_STATUS = Path("/proc/self/status")


def is_debugged() -> bool:
    """Whether it was asked for, with ``--debug`` or the variable of that name."""
    return os.environ.get(SWITCH, "") not in ("", "0")


def debugger() -> str | None:
    """The name of what has hold of this process, None where nothing has.

    A debugger written in Python is seen by its frames: while it waits for a command they are on the stack of the thread that
    waits, and one that an editor talks to has threads of its own. Others (gdb, strace, rr) trace the process, which Linux tells.
    """
    for frame in sys._current_frames().values():
        while frame is not None:
            name = str(frame.f_globals.get("__name__", "")).split(".")[0]
            if name in _DEBUGGERS:
                return _DEBUGGERS[name]
            frame = frame.f_back
    try:
        status = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:  # of another system
        return None
    tracer = status.partition("TracerPid:")[2].split("\n")[0].strip()
    return f"process {tracer}" if tracer not in ("", "0") else None
