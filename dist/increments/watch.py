"""Which partitions of a folder that others write into are complete."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ...data.storage import storage
from ...data.storage.file_systems import is_uri
from ...data.storage.globs import expand_glob
from ..logs.records import info

_MARK = "_SUCCESS"

Partition = Mapping[str, str]
"""Domain -> pattern of its files."""

_Files = list[tuple[str, int, int]]
"""Name, size, and time of writing."""


class Watch:
    """Looks at partitions again and again.

    Where any of them has a file ``_SUCCESS`` beside its data, as Spark writes it last, one is complete when every folder of it has it. Else it is when
    its files are those of the look before, by name, size and time of writing. Of several domains, all must have files, or a
    later partition must be there.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], _Files | None] = {}
        self._now: dict[tuple[str, ...], _Files | None] = {}
        self._done: dict[tuple[str, ...], _Files | None] = {}
        self._every: Sequence[Partition] = ()
        self._domains, self._marks, self._awaited = 0, False, ""

    def look(self, every: Sequence[Partition], domains: int) -> None:
        """Looks at all partitions there are, in order, of so many domains."""
        self._before, self._now = self._now, {_key(one): _files(one) for one in every}
        self._every, self._domains = every, domains
        self._marks = any(_marked(folder) for one in every for folder in self._folders(one))

    def is_done(self, partition: Partition) -> bool:
        """Whether there is nothing in it that `done` was not told of."""
        return _key(partition) in self._done and self._done[_key(partition)] == self._now[_key(partition)]

    def done(self, partition: Partition) -> None:
        """There is no need to look into it again while its files stay the same."""
        self._done[_key(partition)] = self._now[_key(partition)]

    def is_complete(self, partition: Partition) -> bool:
        """Whether nothing more will come, as far as can be told."""
        folders = self._folders(partition)
        if len(partition) < self._domains and partition == self._every[-1]:
            beside = folders[0] if folders else next(iter(partition.values()))
            return self._waits(f"{self._domains - len(partition)} of the {self._domains} domains beside {beside}")
        if self._marks:
            missing = [folder for folder in folders if not _marked(folder)]
            return not missing or self._waits(storage.join(missing[0], _MARK))
        now = self._now[_key(partition)]
        return now is not None and now == self._before.get(_key(partition))

    def _folders(self, partition: Partition) -> list[str]:
        return sorted({storage.parent(file) for file, _, _ in self._now[_key(partition)] or ()})

    def _waits(self, what: str) -> bool:
        """Says once what is waited for; no."""
        if what != self._awaited:
            info(f"waits for {what}")
            self._awaited = what
        return False


def _key(partition: Partition) -> tuple[str, ...]:
    return tuple(partition.values())


def _files(partition: Partition) -> _Files | None:
    """What is there; None where something goes at the same time."""
    files = [file for pattern in partition.values() for file in expand_glob(pattern)]
    with suppress(FileNotFoundError, KeyError):
        if not any(map(is_uri, files)):
            return [(file, (stat := os.stat(file)).st_size, stat.st_mtime_ns) for file in files]
        folders = {storage.parent(file) for file in files}
        there = {
            storage.join(folder, name): stamp for folder in folders for name, stamp in storage.listing(folder).items()
        }
        return [(file, *there[file]) for file in files]
    return None


def _marked(folder: str) -> bool:
    return storage.exists(storage.join(folder, _MARK))
