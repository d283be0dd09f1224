"""A folder of scores: whose it is, what it holds, and putting a new result in the place of an old one.

``_job.json`` says what job it is of, ``_SUCCESS`` that the result is whole, ``_summary.json`` what is in it. Of a job that
overwrites, all is written into ``_next/`` first, and moved when it is whole: the result before stays until then.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.file_identity import continued, same_content
from ...data.storage.file_systems import is_uri
from ...data.storage.json_documents import parse_document
from ...data.storage.local_writes import is_temporary
from ...data.storage.new_folder import check_can_be_made
from ...data.storage.trees import files_below, move_file, remove_tree
from ..run.run_documents import JobOf

SUCCESS, SUMMARY, JOB = "_SUCCESS", "_summary.json", "_job.json"
INPUT, TEXTS = "input", "catalogs_and_texts"
"""Of ``_job.json``: what is read."""
DONE = "_parts"
"""Folder in which a file tells that a part is done, where a part is several files."""
NEXT = "_next"
_OURS = (SUCCESS, SUMMARY, JOB, DONE)
_OVERWRITE = "Give an empty folder, or --overwrite to put the new scores in its place when they are whole."


@dataclass(frozen=True)
class Place:
    """Where a job writes.

    Attributes:
        folder: ``out``, or the one beside the result that will be overwritten.
        known: what ``_job.json`` there notes of the job's input, in the order in which files are numbered; empty where the job
            begins.
        at: of each of these, its position among the input's files now; None where it has gone or changed, and nothing of it
            is written.
    """

    folder: str
    known: list[dict[str, Any]]
    at: list[int | None]


def part_prefix(number: int) -> str:
    """What the names of all parts of a file of the input begin with."""
    return f"part-{number:05d}-"


def noted(out: str) -> dict[str, Any]:
    """What is noted of the job whose result ``out`` holds, or will as soon as it is swapped in.

    Raises:
        UserError: it holds something that is no scoring job's, or a damaged note.
    """
    return _held(_current(out))


def place_of(
    out: str, job: dict[str, Any], files: Sequence[dict[str, Any]], texts: Sequence[dict[str, Any]], overwrite: bool
) -> Place:
    """Where a job is to write, which goes on if some of it is done; changes nothing.

    Args:
        out: the folder of the result.
        job: what it depends on beside its input and what is joined to that.
        files: the input's `identities`.
        texts: those of catalogs and texts.
        overwrite: whether another job's result may be replaced.

    Raises:
        UserError: the folder holds another job's scores that may not be.
    """
    folder = _current(out)
    held = _held(folder)
    if not _has_results(folder):
        return Place(out, [], [])
    differ = _differ(held, job, texts)
    at, wrong = _input_now(folder, held, files)
    late = len(files) - sum(position is not None for position in at)
    if not differ and not wrong and not (late and overwrite):
        return Place(out, held.get(INPUT, []), at)
    if not overwrite:
        what = f"holds the scores of another job ({', '.join(differ)} differ)"
        raise UserError(out, what if differ else f"holds the scores of input that has changed: {wrong[0]}", _OVERWRITE)
    beside = storage.join(out, NEXT)
    held = _held(beside) if not _is_whole(out) and JOB in storage.names(beside) else {}
    at, wrong = _input_now(beside, held, files)
    same = held and not _differ(held, job, texts) and not wrong and len(at) == len(files)
    return Place(beside, held[INPUT] if same else [], at if same else [])


def claim(out: str, place: Place, job: dict[str, Any]) -> None:
    """Makes a place a job's: what is left of another one, and of writing that was cut short, goes.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if place.folder != out and not place.known:
            remove_tree(place.folder)
        storage.write(storage.join(place.folder, JOB), json.dumps(job, indent=1).encode())
    except OSError as error:
        raise UserError(out, f"cannot be written ({error.strerror})", "Choose a folder you can write to.") from error
    gone = tuple(part_prefix(number) for number, at in enumerate(place.at) if at is None)
    for stray in files_below(place.folder):
        name = Path(stray).name
        # A part of several files that was cut short, of input that has changed since, would stand beside the new one.
        if (is_temporary(name) or name.startswith(gone)) and "/_next/" not in f"/{stray}":
            storage.remove(storage.join(place.folder, stray))


def check_place(out: str) -> None:
    """Finds out, without writing anything, whether a local folder can be made or written into.

    Raises:
        UserError: it cannot.
    """
    storage.names(out)
    if not is_uri(out):
        check_can_be_made(Path(out), out, "Choose a folder you can write to.")


def succeed(out: str, folder: str, summary: bytes) -> None:
    """Writes the summary and ``_SUCCESS`` of a whole result, and puts it in its place."""
    storage.write(storage.join(folder, SUMMARY), summary)
    names = [name for name in files_below(folder) if name not in (JOB, SUCCESS) and not name.startswith(f"{NEXT}/")]
    names.append(JOB)  # the last to be moved
    storage.write(storage.join(folder, SUCCESS), b"" if folder == out else "\n".join(names).encode())
    if folder != out:
        swap(out)


def swap(out: str) -> None:
    """Puts the whole result in ``_next`` in the place of the one before; one that was cut short goes on. Nothing where there is none.

    Files are replaced one by one, each at once: from when ``_SUCCESS`` goes until it is there again, both are mixed.
    """
    if not _is_whole(out):
        return
    beside = storage.join(out, NEXT)
    listed = (storage.read(storage.join(beside, SUCCESS)) or b"").decode().splitlines()
    storage.remove(storage.join(out, SUCCESS))
    there = set(files_below(beside))
    for name in files_below(out):
        first = name.split("/")[0]
        if name not in listed and (first in _OURS or first.startswith("part-") or "=" in first):
            storage.remove(storage.join(out, name))
    for name in listed:
        if name in there:  # else it was moved before the swap was cut short
            move_file(storage.join(beside, name), storage.join(out, name))
    storage.write(storage.join(out, SUCCESS), b"")
    remove_tree(beside)


def _current(out: str) -> str:
    """The folder that says what ``out`` holds, or will as soon as a swap that was begun is through."""
    beside = storage.join(out, NEXT)
    return beside if _is_whole(out) and JOB in storage.names(beside) else out


def _is_whole(out: str) -> bool:
    return NEXT in storage.names(out) and SUCCESS in storage.names(storage.join(out, NEXT))


def _has_results(folder: str) -> bool:
    return any(name in (SUCCESS, DONE) or name.startswith("part-") or "=" in name for name in storage.names(folder))


def _differ(held: dict[str, Any], job: dict[str, Any], texts: Sequence[dict[str, Any]]) -> list[str]:
    differ = [name for name in job if held.get(name) != job[name]]
    return differ if same_content(held.get(TEXTS, []), texts) else [*differ, TEXTS]


def _input_now(
    folder: str, held: dict[str, Any], files: Sequence[dict[str, Any]]
) -> tuple[list[int | None], list[str]]:
    """Where the files of a job are now, and what is wrong with those that parts are made of."""
    known = held.get(INPUT, [])
    at, wrong = continued(known, files)
    if wrong:  # those of which nothing is written yet may have changed
        written = storage.names(folder) | storage.names(storage.join(folder, DONE))
        begun = [number for number in range(len(known)) if any(n.startswith(part_prefix(number)) for n in written)]
        wrong = continued([known[number] for number in begun], files)[1]
    return at, wrong


def _held(folder: str) -> dict[str, Any]:
    """The job whose folder it is; empty where it is nobody's."""
    written = storage.read(storage.join(folder, JOB))
    if written is None and storage.names(folder) - {NEXT}:
        raise UserError(folder, "is not empty and holds no scoring job", "Give an empty folder, or delete that one.")
    remedy = "Give an empty folder, or delete that one."
    return parse_document(written, storage.join(folder, JOB), JobOf, remedy) if written is not None else {}
