"""How a command ends: what it says of an error, and the status it leaves with."""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import util
from typing import NoReturn

import psutil

from ...data.errors import UserError
from ..lease.lease import Held, release_all
from ..logs import prometheus
from ..logs.records import fault, mistake
from ..slurm.meeting import leave_meeting
from .environment import launched
from .launch import SIGNALS, TOLD, store_file, tell_interrupted, tell_stopping
from .statuses import FAULT, INTERRUPTED, MISTAKE, TRY_AGAIN
from .temporary_folder import remove_private_folder

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP}
_MORE_ROOM = "Free some space, or write to another disk; run again to resume."
_PATIENCE = 5.0  # seconds that what was asked to stop has for it
_WAIT = 2.0  # seconds, well above the time a launcher takes to notice a failed rank and end the others


def end_on_signals() -> None:
    """Makes Ctrl-C end this process and all that it has started, at once; SIGTERM and SIGUSR1, soon, with status 75.

    Of Ctrl-C Python's own way is an exception, which a callback of a library may swallow while the training goes on.
    """
    # It reaches every rank of a terminal: one that ended a little later would tell the end of the first as its failure.
    signal.signal(signal.SIGINT, signal.SIG_DFL if launched() else _interrupted)
    if not launched() and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _ended)
    for one in SIGNALS:
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, _stop)


def _interrupted(*_: object) -> NoReturn:
    _clear_up(psutil.Process().children(recursive=True))
    prometheus.ended(INTERRUPTED, failed=False)
    release_all()
    tell_interrupted()
    os._exit(INTERRUPTED)


def _ended(number: int, _: object) -> NoReturn:
    _clear_up(psutil.Process().children(recursive=True))
    prometheus.ended(128 + number, failed=False)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container is not ended by its own signal


def _stop(number: int, _: object) -> NoReturn:
    """Leaves what is at hand: whatever was written is whole, and a job that is run again finds it."""
    for one in SIGNALS:  # `timeout` and Slurm send several
        signal.signal(one, signal.SIG_IGN)
    if not launched() or (os.environ["RANK"] == "0" and store_file() is None):  # else foundrank's own launcher tells it
        tell_stopping(number)
    threading.Thread(target=_stop_late, daemon=True, name="stop").start()
    raise SystemExit(TRY_AGAIN)


def _heed_no_more() -> None:
    """From now on a request to stop changes no status; but where a launcher ends this rank because another failed, that is the end."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_DFL if launched() else signal.SIG_IGN)


def _stop_late() -> NoReturn:
    """Threads that are to end first may take as long as they like, and an exception may be swallowed."""
    time.sleep(_PATIENCE)
    children = psutil.Process().children(recursive=True)
    prometheus.ended(TRY_AGAIN, failed=False)
    release_all()
    _clear_up(children if not launched() else ())
    os._exit(TRY_AGAIN)


def end_at_once(error: UserError) -> NoReturn:
    """Ends this process and all that it has started, from whichever thread, before any of them writes on."""
    status = _say(error)
    children = psutil.Process().children(recursive=True)
    remove_private_folder()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(status)  # at once: who waits for the ranks would tell their end as a failure


def _clear_up(processes: Iterable[psutil.Process] | None = None) -> None:
    """Ends what this process has started (by itself, what ranks would be forked from) and removes the command's own folder."""
    if processes is None:
        # Busy importing, it would outlive this process.
        children = psutil.Process().children()
        processes = [one for one in children if "multiprocessing.forkserver" in _command(one)]
    processes = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if (started := sys.modules.get("multiprocessing.forkserver")) is not None:
        started._forkserver._stop()  # which waits for its own process: another command of this one may start it anew
    psutil.wait_procs(processes, timeout=3)  # while they are about, they may write there
    util._run_finalizers()  # type: ignore[attr-defined]  # multiprocessing's own, which would look for its folder later
    remove_private_folder()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def end_failed(error: Exception) -> None:
    """Ends a command that raised an error: a user's mistake is one paragraph and status 2, anything else a traceback and status 1.

    Raises:
        SystemExit: where `end` is to do the rest.
    """
    _heed_no_more()
    if isinstance(error, UserError):
        _tell(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        _tell(UserError(error.filename or "the disk", f"cannot be written ({error.strerror})", _MORE_ROOM))
    if isinstance(error, BrokenPipeError):
        _end_unheard()
    if isinstance(error, OSError) and error.errno in _NOT_OURS and error.filename is not None:
        _tell(
            UserError(error.filename, f"cannot be used ({error.strerror})", "Give another path, or one that is yours.")
        )
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        encoding = sys.getfilesystemencoding()
        _tell(UserError("the locale", f"is for {encoding}, which has no {error.object!r}", "Set PYTHONUTF8=1."))
    if not launched():
        fault(error, FAULT, of_rank=False)
        raise SystemExit(FAULT)
    time.sleep(_WAIT)  # where another rank failed first, the launcher ends this one before it tells the consequence
    if _first_to_tell():
        fault(error, FAULT, of_rank=True)
    leave_meeting()
    prometheus.ended(FAULT, failed=True)
    sys.stderr.flush()
    os._exit(FAULT)


def _end_unheard() -> NoReturn:
    """Ends a command whose output nobody takes any more, as in ``foundrank describe DATA | head``."""
    if not launched():
        _clear_up()
    os._exit(128 + signal.SIGPIPE)


def end(done: SystemExit) -> None:
    """Ends a command that is through, with its status."""
    _heed_no_more()
    status = done.code if isinstance(done.code, int) else int(done.code is not None)
    prometheus.ended(status, failed=status in (FAULT, MISTAKE))
    if not launched():
        _clear_up()
        if status == INTERRUPTED:
            tell_interrupted()
        if status != TRY_AGAIN:  # what was stopped may have threads that would go on
            raise done
    leave_meeting()
    # The work is done and the process group closed. Threads of the libraries that are still about can abort an
    # interpreter that takes itself apart, and the job would count as failed.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def status_of(error: Exception) -> int:
    """The exit status of an error."""
    if isinstance(error, Held):
        return TRY_AGAIN
    return MISTAKE if isinstance(error, UserError) else FAULT


def _tell(error: UserError) -> NoReturn:
    """Says what is wrong, and leaves with the status for it."""
    if launched() and os.environ["RANK"] != "0":
        time.sleep(_WAIT)  # where rank 0 has the same error, the launcher ends this one before it says it again
    status = _say(error) if _first_to_tell() else status_of(error)
    leave_meeting()
    if not launched():
        _clear_up()
    # A collective may still be pending in a background thread, and would keep a failed rank alive.
    os._exit(status)


def _first_to_tell() -> bool:
    """Whether no other of the ranks that were started together has told what is wrong: on a busy machine waiting does not do."""
    store = store_file()
    if store is None:
        return True
    try:
        os.close(os.open(f"{store}{TOLD}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    except OSError:  # a disk that is full, say
        return True
    return True


def _say(error: UserError) -> int:
    """Says what is wrong; the status to leave with."""
    status = status_of(error)
    mistake(error, status)
    if not isinstance(error, Held):  # its file may be the other job's, too
        prometheus.ended(status, failed=status == MISTAKE)
    sys.stderr.flush()
    return status
