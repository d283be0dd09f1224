"""What a run has been updated with: ``increments.jsonl``, a line for each increment, in the folder of the run."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ...data.errors import UserError
from ...data.storage.file_identity import FileIdentity, fingerprint
from ...data.storage.json_documents import Shape, parse_document
from ...data.storage.local_writes import write_text
from ...data.storage.mirror import fetch, mirrored, origin, publish_changed, remove_original
from ...data.storage.storage import names
from ..logs.records import info
from ..promote.promote import ITSELF
from ..run.run_documents import Count, Digest, Events
from ..run.run_folder import BEFORE_ONE, COMMITTED, DELTAS, EVENTS, EXPERIMENT, INCREMENTS, read_json, write_json

RECORD, INCREMENT = "increments.jsonl", "increment.json"
_GOING = ".going"
_NAME = re.compile(r"(\d{5,})-[0-9a-f]{8}")


class Increment(Shape):
    """A line of ``increments.jsonl``, and ``increment.json`` in the folder of one that is being learned.

    Attributes:
        increment: counted from 1.
        digest: of what its files hold.
        run: folder of the run that it made, as seen from the one that is updated.
        base: likewise, of the run that it went on from.
        events: domain -> pattern of its files.
        files: domain -> its files.
        rows: of all domains; none where ids were forgotten.
    """

    increment: Annotated[int, Field(ge=1)]
    digest: Digest
    run: Annotated[str, Field(pattern=r"^increments/\d{5,}-[0-9a-f]{8}$")]
    base: Annotated[str, Field(pattern=r"^(\.|increments/\d{5,}-[0-9a-f]{8})$")]
    events: dict[str, str]
    files: dict[str, list[FileIdentity]]
    rows: Count


def read_record(run: Path) -> list[dict[str, Any]]:
    """The increments of a run, in order.

    Raises:
        UserError: a line is damaged.
    """
    path, remedy = run / RECORD, "Restore it: it says which files have been learned from."
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [parse_document(line, f"{path}: line {number}", Increment, remedy) for number, line in enumerate(lines, 1)]


def add_to_record(run: Path, increment: Mapping[str, Any]) -> None:
    """Adds an increment, unless it is there; the file is as it was, or has all of it."""
    record = read_record(run)
    if increment["run"] not in {known["run"] for known in record}:
        write_text(run / RECORD, "".join(json.dumps(line) + "\n" for line in [*record, increment]))
        publish_changed(run, [RECORD])


def read_increment(folder: Path) -> dict[str, Any] | None:
    """What a run says that is an increment of another one; None of any other.

    Raises:
        UserError: the file is damaged.
    """
    fetch(folder, lambda name: name == INCREMENT)
    return read_json(folder / INCREMENT, Increment)


def write_increment(folder: Path, told: Mapping[str, Any]) -> None:
    """Writes what `read_increment` gives."""
    write_json(folder / INCREMENT, told)
    publish_changed(folder, [INCREMENT])


def folder_name(number: int, digest: str) -> str:
    """Of the folder of an increment, as seen from the run that is updated."""
    return f"{INCREMENTS}/{number:05d}-{digest[:8]}"


def digest_of(files: Mapping[str, list[dict[str, Any]]]) -> str:
    """What tells the files of some domains from others, whatever they are called."""
    of_domains = {name: fingerprint(of_domain) for name, of_domain in sorted(files.items()) if of_domain}
    return hashlib.sha256(json.dumps(of_domains).encode()).hexdigest()


def given_up(run: Path, version: str) -> list[dict[str, Any]]:
    """The files of increments that a version of a run does not go on from: of versions that were given up for the one before."""
    kept = {of["run"] for of in _lineage(run, version)}
    others = (of for of in read_record(run) if of["run"] not in kept)
    return [file for of in others for files in of["files"].values() for file in files]


def learned_by(run: Path, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a version of a run has learned from: the number of the increment, or in what else, and each file.

    Raises:
        UserError: the record is damaged, or lacks an increment.
    """
    for of in _lineage(run, version):
        yield from ((f"increment {of['increment']}", file) for files in of["files"].values() for file in files)
    for files in read_json(run / EVENTS, Events, {}).values():
        yield from (("the first training", file) for file in files)


def _lineage(run: Path, version: str) -> Iterator[dict[str, Any]]:
    """The increments that a version of a run has come from, its own first."""
    known = {of["run"]: of for of in read_record(run)}
    while version != ITSELF:
        if version not in known:
            raise UserError(
                run / RECORD, f"says nothing of {version}", "Restore it, or roll back to a version that it has."
            )
        yield known[version]
        version = known[version]["base"]


def begun(run: Path) -> list[Path]:
    """Folders of increments, finished or not, in order."""
    return [run / INCREMENTS / name for name in _names_in(run / INCREMENTS) if _NAME.fullmatch(name)]


def _names_in(folder: Path) -> list[str]:
    """What a folder holds, or the one that a mirror stands for: the mirror itself may have more, or less."""
    return sorted(names(origin(folder) or folder))


def remove_all_but(run: Path, kept: set[str]) -> None:
    """Removes the folders of increments that are no longer needed, with their deltas, and what is left of others that were never finished."""
    numbers = {of["increment"] for of in read_record(run) if of["run"] in kept}
    increments, deltas = run / INCREMENTS, run / DELTAS
    for name in names(increments).union(_names_in(increments)):  # of a mirror also what another machine has removed
        if _NAME.fullmatch(name) and f"{INCREMENTS}/{name}" not in kept:
            remove(increments / name)
    for name in names(deltas).union(_names_in(deltas)):
        if name.isdecimal() and int(name) not in numbers:
            remove(deltas / name, COMMITTED)
    for left in (*increments.glob(f".*{_GOING}"), *deltas.glob(".*")):
        shutil.rmtree(left, ignore_errors=True)


def remove(folder: Path, marker: str = EXPERIMENT) -> None:
    """Removes a folder at once: what a killed job leaves of it has another name or, in a bucket, no ``marker``."""
    if (uri := origin(folder)) is not None:
        remove_original(folder / marker)
        remove_original(folder)
        shutil.rmtree(mirrored(uri, "read"), ignore_errors=True)
    if folder.is_dir():
        going = folder.with_name(f".{folder.name}{_GOING}")
        shutil.rmtree(going, ignore_errors=True)
        os.replace(folder, going)
        shutil.rmtree(going, ignore_errors=True)


def remove_rest(folder: Path) -> None:
    """Makes room in a bucket for an increment where only the rest of one is, whose removal was cut short."""
    uri = origin(folder)
    if uri is not None and EXPERIMENT not in (there := names(uri)) and there - BEFORE_ONE:
        info(f"{uri} is the rest of an increment without {EXPERIMENT}; it is removed", "increment")
        remove_original(folder)
