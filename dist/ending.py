"""How a command ends: what it says of an error, and the status it leaves with."""

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import util
from typing import NoReturn

import psutil
from rich.console import Console

from ..data.errors import UserError
from ..data.mirror import shown
from .launch import INTERRUPTED, launched

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_MORE_ROOM = "Free some space, or write to another disk; run again, it goes on."
_WAIT = 2.0  # seconds, well above the time a launcher takes to notice a failed rank and end the others


def end_on_interrupt() -> None:
    """Makes Ctrl-C end this process and all that it has started, at once.

    Python's own way is an exception, which a callback of a library may swallow while the training goes on.
    """
    # It reaches every rank of a terminal: one that ended a little later would tell the end of the first as its failure.
    signal.signal(signal.SIGINT, signal.SIG_DFL if launched() else _interrupted)


def _interrupted(*_: object) -> NoReturn:
    _kill(psutil.Process().children(recursive=True))
    _tell_interrupted()
    os._exit(INTERRUPTED)


def _end_fork_server() -> bool:
    """Ends what ranks would be forked from, which outlives this process while it is busy importing. Whether there was one."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process().children()
        servers = [one for one in children if "multiprocessing.forkserver" in " ".join(one.cmdline())]
        _kill(servers)
        return bool(servers)
    return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _tell_interrupted() -> None:
    print("interrupted: run the same command again, it goes on", file=sys.stderr, flush=True)


def end_failed(error: Exception) -> None:
    """Ends a command that raised an error: a user's mistake is one paragraph and status 2, anything else is raised again."""
    if isinstance(error, UserError):
        _tell(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        _tell(UserError(error.filename or "the disk", f"cannot be written ({error.strerror})", _MORE_ROOM))
    if not launched():
        _end_fork_server()
        raise error
    time.sleep(_WAIT)  # where another rank failed first, the launcher ends this one before it tells the consequence
    print(f"rank {os.environ['RANK']} failed:\n{''.join(traceback.format_exception(error))}", end="", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def end(done: SystemExit) -> None:
    """Ends a command that is through, with its status."""
    if not launched():
        _end_fork_server()
        if done.code == INTERRUPTED:
            _tell_interrupted()
        raise done
    # The work is done and the process group closed. Threads of the libraries that are still about can abort an
    # interpreter that takes itself apart, and the job would count as failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(done.code if isinstance(done.code, int) else int(done.code is not None))


def _tell(error: UserError) -> NoReturn:
    """Says what is wrong, and leaves with status 2."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(_WAIT)  # where rank 0 has the same error, the launcher ends this one before it says it again
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(shown(f"error: {error.where}"), style="bold red", markup=False)
    console.print(shown(f"  {error.what}.\n  {error.remedy}"), markup=False)
    sys.stderr.flush()
    if not launched() and _end_fork_server():
        util._run_finalizers()  # type: ignore[attr-defined]  # multiprocessing's own, which os._exit leaves out: a folder
    # A collective may still be pending in a background thread, and would keep a failed rank alive.
    os._exit(2)
