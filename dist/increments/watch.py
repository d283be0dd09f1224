"""Which partitions of a folder that others write into are complete."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from ...data.storage import storage
from ...data.storage.globs import expand_glob
from ..logs.records import info

_MARK = "_SUCCESS"

Partition = Mapping[str, str]
"""Domain -> pattern of its files."""


class Watch:
    """Looks at partitions again and again.

    Where any of them has a file ``_SUCCESS`` beside its data, as Spark writes it last, one is complete when every folder of it has it. Else it is when
    its files are those of the look before, by name, size and time of writing. Of several domains, all must have files, or a
    later partition must be there.
    """

    def __init__(self) -> None:
        self._seen: Sequence[object] | None = None
        self._awaited = ""

    def is_complete(self, partition: Partition, every: Sequence[Partition]) -> bool:
        """Whether nothing more will come, as far as can be told; ``every`` are all there are, in order."""
        is_last, most = partition == every[-1], max(map(len, every))
        if len(partition) < most and is_last:
            return self._waits(f"{most - len(partition)} of the {most} domains beside {_folders(partition)[0]}")
        if any(_marked(folder) for one in every for folder in _folders(one)):
            missing = [folder for folder in _folders(partition) if not _marked(folder)]
            return not missing or self._waits(storage.join(missing[0], _MARK))
        files, now = [file for pattern in partition.values() for file in expand_glob(pattern)], None
        with suppress(FileNotFoundError):  # one that was renamed meanwhile
            now = [(file, *storage.sizes([file]), storage.modified(file)) for file in files]
        before, self._seen = self._seen, now
        return now is not None and now == before

    def _waits(self, what: str) -> bool:
        """Says once what is waited for; no."""
        if what != self._awaited:
            info(f"waits for {what}")
            self._awaited = what
        return False


def _folders(partition: Partition) -> list[str]:
    return sorted({storage.parent(file) for pattern in partition.values() for file in expand_glob(pattern)})


def _marked(folder: str) -> bool:
    return storage.exists(storage.join(folder, _MARK))
