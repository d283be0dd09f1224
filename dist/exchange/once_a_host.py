"""What every rank needs alike and only reads: made by one rank of each machine, in memory that the others map."""

import copy
import math
import mmap
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..logs.records import warning
from ..ranks.runtime import Runtime

_T = TypeVar("_T")
_ALIGNED = 64
"""Bytes: where an array may begin, as Arrow and NumPy have it."""


@dataclass(frozen=True)
class _Array:
    """Where an array is: first byte in the file, its type and shape."""

    start: int
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Written:
    """A value whose arrays are in a file of so many bytes, and `_Array` in their places."""

    file: Path
    size: int
    value: Any


def once_a_host(make: Callable[[], _T], runtime: Runtime) -> _T:
    """A value, made by one rank of each machine; its NumPy arrays are mapped by all of them, so that there is one copy. A collective.

    The file has no name any more once all have mapped it, and goes when they do. Where it cannot be written, or is not
    found, as in containers that share a name, each rank makes a value of its own.

    Args:
        make: makes the value, the same on every rank. The arrays are to be read alone.
        runtime: the process group.

    Raises:
        UserError: as of ``make``, on every rank.
    """
    if runtime.world_size == 1:
        return make()
    hosts = runtime.gather_all(socket.gethostname())
    maker = hosts.index(hosts[runtime.rank])
    value: Any = None
    written: _Written | None = None

    def make_here() -> _Written | None:
        nonlocal value, written
        if maker == runtime.rank:
            value = make()
            if hosts.count(hosts[maker]) > 1 and (written := _write(value)) is not None:
                value = None  # what the others have will do
        return written

    try:
        if (of_maker := runtime.on_each(make_here)[maker]) is not None:
            value = _read(of_maker)
        runtime.barrier()
    finally:
        if written is not None:
            written.file.unlink(missing_ok=True)
    return make() if value is None else value


def _write(value: object) -> _Written | None:
    """None where there is no room for it."""
    path: Path | None = None
    written: _Written | None = None
    try:
        with tempfile.NamedTemporaryFile(prefix="foundrank-", delete=False) as file:
            path = Path(file.name)

            def put(array: np.ndarray) -> _Array:
                file.write(b"\0" * (-file.tell() % _ALIGNED))
                start = file.tell()
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
                return _Array(start, array.dtype.str, array.shape)

            placed = _replaced(value, np.ndarray, put, {})
            file.flush()
            size = file.tell()
        written = _Written(path, size, placed)
    except OSError as error:
        told = f"{tempfile.gettempdir()}: {error.strerror or error}; each rank reads the catalogs for itself"
        warning(f"{told}. Set TMPDIR to a folder with more room")
    finally:
        if written is None and path is not None:
            path.unlink(missing_ok=True)
    return written


def _read(written: _Written) -> Any:
    """None where the file is not there."""
    try:
        with written.file.open("rb") as file:
            # A page that a process writes to becomes its own.
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if written.size else bytearray()
    except OSError:
        return None

    def get(of: _Array) -> np.ndarray:
        kind = np.dtype(of.type)
        return np.frombuffer(held, kind, math.prod(of.shape), of.start if math.prod(of.shape) else 0).reshape(of.shape)

    return _replaced(written.value, _Array, get, {})


def _replaced(value: Any, kind: type, by: Callable[[Any], Any], done: dict[int, Any]) -> Any:
    """A copy with something else in place of each value of a kind, which may be in dicts, tuples and attributes; ``done`` has what is
    there more than once."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, kind):
        new = by(value)
    elif isinstance(value, dict):
        new = {name: _replaced(part, kind, by, done) for name, part in value.items()}
    elif isinstance(value, tuple):
        new = tuple(_replaced(part, kind, by, done) for part in value)
    elif hasattr(value, "__dict__") and not isinstance(value, type | Path):
        new = copy.copy(value)
        vars(new).update(_replaced(vars(value), kind, by, done))
    else:
        return value
    done[id(value)] = value, new  # the value, too, so that nothing else gets its number
    return new
