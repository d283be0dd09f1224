"""The command line: ``foundrank ARGUMENTS``, from its first moment to its end.

Everything else is imported once signals are heeded: the libraries take a second or more, and an interrupt in it is no fault to trace.
"""

import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from typing import NoReturn

from ..ranks.launch import SIGNALS, launched, tell_interrupted, tell_stopping
from ..ranks.statuses import INTERRUPTED, TRY_AGAIN


def main() -> None:
    """Entry point: a user's mistake is one paragraph and status 2, anything else a traceback and status 1."""
    signal.signal(signal.SIGINT, signal.SIG_DFL if launched() else _interrupted_early)
    for one in SIGNALS:
        if signal.getsignal(one) == signal.SIG_DFL:
            signal.signal(one, _stopped_early)
    os.environ["PYTHONSAFEPATH"] = "1"  # what is started from here takes no module from the working folder either
    # Before Arrow is there, whose own keeps what was freed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from ..quick_imports import quick_imports  # as all else: Ctrl-C is heeded by now

    with quick_imports():
        from ...data.arrow.without_pandas import leave_pandas_out  # as above

        leave_pandas_out()  # before any module makes a value
        # For start-up time, as above.
        from ...data.debugging import debugger, is_debugged
        from ...data.errors import UserError
        from ..logs.records import told_output
        from ..logs.settings import FORMAT
        from ..ranks.ending import end, end_failed, end_on_signals
        from ..ranks.temporary_folder import private_folder
        from .app import app

    end_on_signals()
    if not launched():
        with suppress(UserError):  # told to those that need one
            private_folder()
    if ("--log-format", "json") in pairwise(sys.argv) or "--log-format=json" in sys.argv:
        os.environ[FORMAT] = "json"  # for mistakes in the command line, which come before its options are looked at
    with told_output():
        try:
            try:
                app()
            except Exception as error:
                if is_debugged() and debugger() is not None:
                    raise  # a debugger that is about stops where it was raised
                end_failed(error)
        except SystemExit as done:
            end(done)


def _interrupted_early(*_: object) -> NoReturn:
    """There is nothing to clear up yet."""
    tell_interrupted()
    os._exit(INTERRUPTED)


def _stopped_early(number: int, _: object) -> NoReturn:
    """As `_interrupted_early`."""
    tell_stopping(number)
    os._exit(TRY_AGAIN)
