"""Holding a folder while a job works in it.

On a file system the kernel keeps the lock, so that it is free the moment its holder dies; a file says who that is. Where
hosts do not see each other's locks, and in object stores, signs of life tell a holder that works from one that is gone.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ...data.errors import UserError
from ...data.storage.file_systems import Location, is_uri
from ...data.storage.mirror import shown
from ...data.storage.storage import LEASE
from .folder_lease import FolderLease
from .folder_lease import holder_in as holder_in_folder
from .holder import EVERY, STALE, Holder, Lost, myself
from .object_lease import ObjectLease
from .object_lease import holder_in as holder_in_objects

BESIDE_TRAINING = f"{LEASE}-evaluate"
"""Held by what measures a run, which may go on while the run is trained."""

_FIRST = (
    1.0,
    3.0,
)  # seconds to the first signs of life: where two took a folder at once, it shows before there is work


class Held(UserError):
    """A folder that another job works in; the command line exits with status 75."""


class Claim(NamedTuple):
    """What a job is to hold: the folder, or its URI, for which command, and the name of the lease."""

    folder: Location
    command: str
    name: str = LEASE


class _Lease(Protocol):
    def take(self) -> Holder | None: ...

    def beat(self) -> None: ...

    def release(self) -> None: ...


_taken: set["_Lease"] = set()


@contextmanager
def holding(claim: Claim, lost: Callable[[UserError], None]) -> Iterator[None]:
    """Within it a folder is this job's alone. It is made where it is not there, and gone again if nothing comes into it.

    A folder that cannot be written is not held: what the job does next says so better.

    Args:
        claim: what is held.
        lost: called, in a thread, when the folder was removed, or another job has it after all.

    Raises:
        Held: another job has it.
        StorageError: the object store cannot be reached or refuses.
    """
    folder, me = claim.folder, myself(claim.command)
    lease: _Lease = (
        ObjectLease(str(folder), claim.name, me) if is_uri(folder) else FolderLease(Path(folder), claim.name, me)
    )
    _taken.add(lease)
    ended = threading.Event()
    try:
        with suppress(OSError):  # the job is about to find out the same, and tells it
            if (holder := lease.take()) is not None:
                raise held_by(folder, holder)
            beat = threading.Thread(target=_beat, args=(claim, lease, ended, lost), daemon=True, name="lease")
            # debugpy stops all threads at a breakpoint, but for those that say so: the folder would seem to be nobody's.
            beat.pydev_do_not_trace = beat.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
            beat.start()
        yield
    finally:
        ended.set()
        _taken.discard(lease)
        lease.release()


def release_all() -> None:
    """Gives back what this process holds; for one that ends without unwinding."""
    for lease in list(_taken):
        with suppress(Exception):
            lease.release()


def held_by(folder: Location, holder: Holder) -> Held:
    """What to tell who wants a folder that another job holds."""
    return Held(
        shown(folder),
        f"another job works there: {holder.told()}",
        "Wait until it has ended, or end it; then run the same command again.",
    )


def holder_of(claim: Claim) -> Holder | None:
    """The job that holds a folder now, as far as can be seen without holding it; nothing is written."""
    folder, me = claim.folder, myself(claim.command)
    if is_uri(folder):
        return holder_in_objects(str(folder), claim.name, me)
    return holder_in_folder(Path(folder), claim.name, me)


def _beat(claim: Claim, lease: _Lease, ended: threading.Event, lost: Callable[[UserError], None]) -> None:
    for seconds in _intervals():
        if ended.wait(seconds):
            return
        try:
            lease.beat()
        except Lost as loss:
            if not ended.is_set():
                lost(_told(claim.folder, loss.to))
            return
        except (OSError, UserError):
            pass  # a network that is away for a while


def _told(folder: Location, to: Holder | None) -> UserError:
    if to is None:
        what = "was removed, or its lease in it, while this job worked there"
        return UserError(shown(folder), what, "Run the same command again, if it was removed by mistake.")
    return Held(
        shown(folder),
        f"was taken by another job, as this one gave no sign of life for {STALE:g} s: {to.told()}",
        "Leave it to that job, or end it and run the same command again.",
    )


def _intervals() -> Iterator[float]:
    yield from _FIRST
    while True:
        yield EVERY
