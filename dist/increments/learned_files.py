"""Whether files have been learned from, by what they hold, wherever they are by now."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.file_identity import content, identities
from ..logs.records import warning


def are_known(found: Sequence[str], noted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all files are among those that were noted, by what they hold; they need not be whole."""
    held = {content(file) for file in noted if "checksum" in file}
    with suppress(FileNotFoundError):
        if {*storage.sizes(found)} <= {file["bytes"] for file in noted}:
            return {content(file) for file in identities(found, noted)} <= held
    return False


def are_learned(
    learned: Iterable[tuple[str, Mapping[str, Any]]],
    files: Mapping[str, Sequence[Mapping[str, Any]]],
    is_followed: bool,
) -> bool:
    """Whether all files have been learned from; where they are followed some of them count as all, which is told.

    Raises:
        UserError: some have, and others have not.
    """
    known = {content(file): where for where, file in learned if "checksum" in file}
    every = _with_rows(files)
    where = [known.get(content(file)) for file in every]
    if all(where):
        return True
    for file, of in zip(every, where, strict=True):
        if of is not None:
            what = f"was learned from in {of}, and {where.count(None):,} of the {len(every):,} files beside it are new"
            remedy = "Name the new files alone, or put them into a folder of their own: each row is learned from once."
            told = UserError(file["file"], what, remedy)
            if not is_followed:
                raise told
            warning(f"{told.where} {told.what}; these are left out. {told.remedy}")
            return True
    return False


def all_among(some: Iterable[Mapping[str, Any]], files: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether all files are among some."""
    return {content(file) for file in _with_rows(files)} <= {content(file) for file in some}


def _with_rows(files: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Files without a row are alike, whenever they were written."""
    return [file for of_domain in files.values() for file in of_domain if sum(file.get("rows", ()))]
