"""Which files a path, a folder or a pattern names, on this machine and in object stores.

What exists is named by its own name, whatever characters that has; a part of a pattern is one only where nothing is called so.
As for Spark and Hive, names that begin with ``_`` or ``.`` are no data (``_SUCCESS``, ``_temporary/``, ``_delta_log/``), unless
the pattern says them.
"""

import glob
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from ..errors import UserError
from . import storage
from .delta_tables import active_files, is_delta, table_of
from .file_systems import Location, is_uri, refuse_secrets, told


def expand_glob(pattern: str) -> list[str]:
    """Files a pattern names, sorted. ``**`` is any number of folders; ``delta:PATH`` is a Delta table, as of `active_files`.

    Raises:
        StorageError: the object store cannot be reached or refuses.
        UserError: a folder cannot be listed; or as of `active_files`.
    """
    if is_delta(pattern):
        return active_files(pattern)
    refuse_secrets(pattern, "the location")
    scheme, _, rest = pattern.partition("://") if is_uri(pattern) else ("", "", pattern)
    first, *parts = rest.split("/")
    start = f"{scheme}://{first}/" if scheme else first or "/"
    if not scheme and first:
        start, parts = ".", [first, *parts]
    if rest.endswith("/"):
        return []  # a file is no folder
    with told(pattern):
        return sorted(set(_matches(start, [part for part in parts if part])))


def parquet_below(source: Location) -> str:
    """The pattern of what is to be read: of a folder its Parquet files, at any depth; a file or a pattern as it is."""
    return storage.join(source, "**", "*.parquet") if storage.is_folder(source) else str(source)


def nothing_matches(pattern: str, where: str, remedy: str) -> UserError:
    """What to say where a pattern names no file."""
    if is_delta(pattern):
        path, _ = table_of(pattern)
        return UserError(
            where, f"'{path}' is no Delta table, or holds no rows", "Give the folder with _delta_log in it."
        )
    if storage.is_folder(pattern):
        return UserError(
            where, f"'{pattern}' is a folder", f"Name its files, e.g. {storage.join(pattern, '*.parquet')}"
        )
    return UserError(where, f"no file matches '{pattern}'", remedy)


def would_name(pattern: str, file: str) -> bool:
    """Whether a pattern would name a file, if it were there; of a Delta table, whether it may be taken for one that it has removed."""
    if is_delta(pattern):
        pattern = storage.join(table_of(pattern)[0], "**")
    parts, wanted = ([part for part in _absolute(one).split("/") if part] for one in (file, pattern))
    plain = 0
    while plain < len(wanted) and wanted[: plain + 1] == parts[: plain + 1]:
        plain += 1
    return _fits(parts[plain:], wanted[plain:])


def _absolute(location: str) -> str:
    location = location.removeprefix("file://")
    return location if is_uri(location) else os.path.realpath(location)


def _matches(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Files below a folder that fit the parts of a pattern; only folders that can hold one are listed."""
    while parts and (not glob.has_magic(parts[0]) or storage.exists(storage.join(folder, parts[0]))):
        folder, parts = storage.join(folder, parts[0]), parts[1:]
    if not parts:
        if storage.is_file(folder):
            yield folder
        return
    deep = parts[0] == "**"
    found = list(storage.entries(folder, deep))
    called_so = {name for name, _ in found} & {parts[0]}
    for name, is_file in found:
        names = name.split("/")
        if deep:
            if is_file and _fits(names, parts):
                yield storage.join(folder, name)
        elif name in called_so or (not called_so and _fits(names, parts[:1])):
            if len(parts) > 1 and not is_file:
                yield from _matches(storage.join(folder, name), parts[1:])
            elif len(parts) == 1 and is_file:
                yield storage.join(folder, name)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the file ``names[0]/names[1]/...`` fits a pattern; ``**`` is any number of folders."""
    if not names or not parts:
        return not names and not parts
    name, part = names[0], parts[0]
    if _is_no_data(name) and part[0] != name[0]:
        return part == "**" and _fits(names, parts[1:])
    if part == "**":
        deeper = _fits(names[1:], parts) if names[1:] else len(parts) == 1
        return _fits(names, parts[1:]) or deeper
    return (name == part or fnmatchcase(name, part)) and _fits(names[1:], parts[1:])


def _is_no_data(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)  # _day=1 is a partition by a column
