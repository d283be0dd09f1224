"""Promoting a run: ``TARGET/current.json`` names the one in use, and every command takes the target in place of a run folder.

The document is replaced at once, so that a job finds the run before or the new one. A job looks once, when it begins. A run that is
updated is a target itself: its increments, which lie in its folder, take its place one after the other.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.file_systems import Location, is_uri
from ...data.storage.json_documents import Shape, parse_document
from ...data.storage.mirror import mirrored
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_documents import Committed, Digest
from ..run.run_folder import COMMITTED, EXPERIMENT, fetch_run, read_json

CURRENT = "current.json"
ITSELF = "."
"""A target that is a run, before one in its folder took its place."""


class Promotion(Shape):
    """One run that was promoted.

    Attributes:
        run: its folder or URI; of one that lies in the target's folder, as seen from there.
        checkpoint: `identity` of the one that was its best.
        since: when it was promoted.
        rolled_back: when it was given up for the one before.
        forgot: whether it has forgotten ids that the one before knows, so that there is no way back.
    """

    run: Annotated[str, Field(min_length=1)]
    checkpoint: Digest
    since: str
    rolled_back: str | None = None
    forgot: bool = False


class Pointer(Shape):
    """``current.json``.

    Attributes:
        run: the current one.
        checkpoint: likewise.
        since: when it became the current one.
        history: all promotions, in order.
    """

    run: Annotated[str, Field(min_length=1)]
    checkpoint: Digest
    since: str
    history: list[Promotion]


class Promoted(NamedTuple):
    """What became of a promotion: the run in use now, the one before, and whether anything has changed."""

    run: str
    before: str | None
    changed: bool


def promote(run: Location, target: Location) -> Promoted:
    """Makes a run the one that ``target`` stands for.

    Args:
        run: its folder or URI, or another target.
        target: a new folder, or an earlier promotion's; or its URI.

    Raises:
        UserError: no run, one without a complete checkpoint, or ``target`` holds something else.
    """
    run = current_run(run)
    found = str(run) if is_uri(run) else os.path.realpath(run)
    checkpoint = _checkpoint(found)
    pointer = _read(target)
    if pointer is None and (there := {name for name in storage.names(target) if not name.startswith(".")}):
        what = f"holds {', '.join(sorted(there)[:3])}, and no run was promoted to it"
        raise UserError(target, what, "Give a new folder to promote to.")
    return _point(target, found, checkpoint, pointer)


def promote_inside(run: Location, folder: str, forgot: bool = False) -> Promoted:
    """Makes a run that lies in another run's ``folder`` the one that this other one stands for; before the first of them it is itself.

    Args:
        run: the other one.
        folder: as seen from there.
        forgot: as of `Promotion`.

    Raises:
        UserError: as of `promote`.
    """
    pointer = _read(run)
    if pointer is None:
        itself = {"run": ITSELF, "checkpoint": _checkpoint(str(run)), "since": _now()}
        pointer = itself | {"history": [itself]}
    return _point(run, folder, _checkpoint(storage.resolved(folder, run)), pointer, forgot)


def _point(
    target: Location, run: str, checkpoint: str, pointer: dict[str, Any] | None, forgot: bool = False
) -> Promoted:
    if pointer is not None and (pointer["run"], pointer["checkpoint"]) == (run, checkpoint):
        return Promoted(run, run, False)
    history = pointer["history"] if pointer is not None else []
    now = _now()
    promotion = {"run": run, "checkpoint": checkpoint, "since": now} | ({"forgot": True} if forgot else {})
    _write(target, promotion | {"history": [*history, promotion]})
    return Promoted(run, pointer["run"] if pointer is not None else None, True)


def roll_back(target: Location) -> Promoted:
    """Goes back to the run that was current before.

    Raises:
        UserError: nothing was promoted before, or that run is not there any more as it was, or it knows what the current one has forgotten.
    """
    pointer = _read(target)
    if pointer is None:
        raise UserError(target, "is no target that a run was promoted to", "Promote one: foundrank promote RUN TARGET")
    history, now = pointer["history"], _now()
    used = [at for at, promotion in enumerate(history) if promotion.get("rolled_back") is None]
    if len(used) < 2:
        raise UserError(target, f"has no run before {pointer['run']} to go back to", "Promote another one.")
    given_up, again = history[used[-1]], history[used[-2]]
    if given_up.get("forgot"):
        what = f"has forgotten ids in {given_up['run']} that the version before knows"
        raise UserError(target, what, "Go on with it: update it with new events.")
    _check(target, again)
    history[used[-1]] = given_up | {"rolled_back": now}
    _write(target, {"run": again["run"], "checkpoint": again["checkpoint"], "since": now, "history": history})
    return Promoted(again["run"], given_up["run"], True)


def current_run(location: Location) -> Location:
    """The run that a target stands for now; what is no target, as it is.

    Raises:
        UserError: the target is damaged, or its run is not what was promoted.
    """
    pointer = _read(location)
    if pointer is None:
        return location
    _check(location, pointer)
    return storage.resolved(pointer["run"], location)


def promotions(target: Location, given_up: bool = False) -> list[str]:
    """The runs that a target has stood for, in order, those that were ``given_up`` for the one before only if asked; none of what is no
    target."""
    pointer = _read(target)
    every = [] if pointer is None else pointer["history"] if given_up else _in_use(pointer)
    return [one["run"] for one in every]


def way_back(target: Location) -> str | None:
    """The run that a target stood for before the current one; None where there is none, or it knows what this one has forgotten."""
    pointer = _read(target)
    used = [] if pointer is None else _in_use(pointer)
    return None if len(used) < 2 or used[-1].get("forgot") else used[-2]["run"]


def _in_use(pointer: dict[str, Any]) -> list[dict[str, Any]]:
    """The promotions that were not given up, in order."""
    return [one for one in pointer["history"] if one.get("rolled_back") is None]


def _check(target: Location, promotion: dict[str, Any]) -> None:
    """Raises a UserError where a promoted run is not there any more as it was."""
    run = storage.resolved(promotion["run"], target)
    remedy = f"Promote it again: foundrank promote {run} {target}; or go back: foundrank promote --rollback {target}"
    try:
        checkpoint = _checkpoint(run)
    except UserError as error:
        raise UserError(
            f"{target}: {error.where}", error.what, f"Restore the run, or promote another to {target}."
        ) from error
    if checkpoint != promotion["checkpoint"]:
        raise UserError(f"{target}: {run}", "has another best checkpoint than when it was promoted", remedy)


def _checkpoint(run: str) -> str:
    folder = mirrored(run, "read")
    fetch_run(folder)
    if not (folder / EXPERIMENT).is_file():
        raise UserError(
            run, f"has no {EXPERIMENT}, so it is not a run", "Give the folder that `foundrank train` wrote."
        )
    checkpoints = best_of_members(folder)
    for checkpoint in checkpoints:
        read_json(checkpoint / COMMITTED, Committed)  # a damaged one is told
    return identity(checkpoints)


def _read(target: Location) -> dict[str, Any] | None:
    path = storage.join(target, CURRENT)
    if not is_uri(target) and not os.path.isfile(path):
        return None
    content = storage.read(path)
    return (
        None if content is None else parse_document(content, path, Pointer, "Restore it, or promote to a new folder.")
    )


def _write(target: Location, pointer: dict[str, Any]) -> None:
    try:
        storage.write(storage.join(target, CURRENT), json.dumps(pointer, indent=1).encode())
    except OSError as error:
        raise UserError(
            Path(target) if not is_uri(target) else target,
            f"cannot be written ({error.strerror})",
            "Choose a folder you can write to.",
        ) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
