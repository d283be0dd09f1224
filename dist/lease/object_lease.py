"""The lease of a folder in an object store, which has no locks: each job puts an object there, and leaves if it is not alone.

Where two begin at the same moment, each may see the other and leave; never do both stay.
"""

import time

from ...data.storage import storage
from .holder import STALE, UNNAMED, Holder, Lost, tell_taken_over, written


class ObjectLease:
    """One folder's lease, which this process takes, renews and gives back; as `FolderLease`."""

    def __init__(self, uri: str, name: str, me: Holder):
        """Args: the folder, the lease's name in it, who takes it."""
        self._folder, self._me = uri, me
        self._place = _place(uri, name)
        self._own = storage.join(self._place, me.nonce)
        self._others: set[str] = set()
        self._taken = False

    def take(self) -> Holder | None:
        """Takes the lease; the other job where one has it.

        Raises:
            StorageError: the object store cannot be reached or refuses.
        """
        self._taken = True
        storage.write(self._own, self._me.content())
        for nonce, silent in _silences(self._place, self._me.nonce).items():
            holder = _read(self._place, nonce)
            if holder is None:
                continue
            gone = holder.is_gone(self._me)
            if not gone and (gone is False or silent <= STALE):
                return holder
            if gone is None:
                tell_taken_over(self._folder, holder, silent)
            storage.remove(storage.join(self._place, nonce))
        return None

    def beat(self) -> None:
        """Shows that this job is still at work.

        Raises:
            Lost: it has the folder no longer.
            StorageError: the object store cannot be reached or refuses.
        """
        if storage.is_file(self._own):
            storage.write(self._own, self._me.content())
            fresh = {one for one, silent in _silences(self._place, self._me.nonce).items() if silent <= STALE}
            # One that looks in leaves at once; one that is still there at the next sign of life has taken over.
            if not (stayed := fresh & self._others):
                self._others = fresh
                return
            to = _read(self._place, min(stayed))
        else:
            to = next((_read(self._place, one) for one in _silences(self._place, self._me.nonce)), None)
        if self._taken:  # else it has just been given back
            raise Lost(to)

    def release(self) -> None:
        """Gives the lease back."""
        if self._taken:
            self._taken = False
            storage.remove(self._own)


def holder_in(uri: str, name: str, me: Holder) -> Holder | None:
    """The job that holds a folder now, as far as one can see; ``me`` asks."""
    place = _place(uri, name)
    for nonce, written_at in _written_at(place).items():
        holder = _read(place, nonce)
        gone = holder.is_gone(me) if holder is not None else True
        if gone is False or (gone is None and time.time() - written_at / 1e9 <= STALE):
            return holder
    return None


def _place(uri: str, name: str) -> str:
    return storage.join(uri, f"{name}s")


def _silences(place: str, own: str) -> dict[str, float]:
    """Other jobs' objects -> seconds since their last signs of life, by the store's clock."""
    there = _written_at(place)
    now = there.get(own) or max(there.values(), default=0)
    return {name: (now - at) / 1e9 for name, at in there.items() if name != own}


def _written_at(place: str) -> dict[str, int]:
    """Jobs' objects -> when they were written last, in nanoseconds; half-written files are none."""
    return {name: at for name, (_, at) in storage.listing(place).items() if not name.startswith(".")}


def _read(place: str, nonce: str) -> Holder | None:
    """A job that has put an object there; None where it is gone by now."""
    content = storage.read(storage.join(place, nonce))
    return None if content is None else written(content) or UNNAMED
