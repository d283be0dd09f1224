"""Which checkpoints a run has, which is the best, and whether they are as they were written."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.errors import UserError
from ...data.storage.mirror import fetch, fetch_again, origin, publish, remove_original
from ..ranks.environment import of_machine
from ..ranks.runtime import Runtime
from .run_documents import Best, Committed, State
from .run_folder import BEST, CHECKPOINTS, COMMITTED, MEMBERS, read_json, write_json

STATE = "state.json"
_DAMAGED = "DAMAGED"
_NAME = re.compile(r"step_(\d{8,})")


def complete(run: Path) -> dict[int, Path]:
    """Step -> folder of each complete checkpoint."""
    folders = (run / CHECKPOINTS).glob("step_*")
    return {int(m[1]): f for f in folders if (m := _NAME.fullmatch(f.name)) and (f / COMMITTED).is_file()}


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / CHECKPOINTS / f"step_{step:08d}"


def best(run: Path) -> Path:
    """The checkpoint that validated best; the newest where none was validated.

    Raises:
        UserError: the run has no complete checkpoint.
    """
    found = complete(run)
    if not found:
        raise UserError(run, "has no complete checkpoint", "Train it first: foundrank train EXPERIMENT --run-dir RUN")
    told = read_json(run / BEST, Best)
    if told is None or told["step"] not in found:
        return found[max(found)]
    folder = found[told["step"]]
    fetch(folder, lambda name: name == STATE)  # the rest of a mirror's checkpoint comes when it is used
    state = read_json(folder / STATE, State)
    if state is None or state.get("validation") != told["validation"]:
        raise UserError(
            run / BEST,
            f"does not agree with {folder / STATE}: one of them is damaged",
            "Restore it, or remove it to use the newest checkpoint.",
        )
    return folder


def member_folder(run: Path, number: int) -> Path:
    """Where a run keeps the checkpoints and the records of one of its models; those of the first are its own."""
    return run / MEMBERS / str(number) if number else run


def members(run: Path) -> list[Path]:
    """`member_folder` of the first of a run's models, and of the others as far as they have a complete checkpoint."""
    others = [int(folder.name) for folder in (run / MEMBERS).glob("*") if folder.name.isdecimal() and complete(folder)]
    return [member_folder(run, number) for number in (0, *sorted(others))]


def best_of_members(run: Path) -> list[Path]:
    """`best` of each of `members`."""
    return [best(folder) for folder in members(run)]


def set_aside(folder: Path) -> None:
    """Makes a damaged checkpoint one that is not complete."""
    os.replace(folder / COMMITTED, folder / _DAMAGED)
    publish(folder / _DAMAGED)
    remove_original(folder / COMMITTED)


def remove_local(folder: Path) -> None:
    """Removes a checkpoint from this machine."""
    (folder / COMMITTED).unlink(missing_ok=True)  # first, so that a half-deleted checkpoint is not a complete one
    shutil.rmtree(folder, ignore_errors=True)


def remove_published(folder: Path) -> None:
    """Removes a mirror's checkpoint, or what there is of it, from where the run is."""
    remove_original(folder / COMMITTED)
    remove_original(folder)


def checked_best(run: Path, runtime: Runtime) -> Path:
    """The folder of a run's best checkpoint, the same one on all ranks, and as it was written. A collective.

    Raises:
        UserError: there is none, or a file of it is missing or has changed.
    """
    folder = run / CHECKPOINTS / runtime.on_main(lambda: best(run).name)
    if (bad := damaged(folder, runtime)) is not None:
        raise UserError(
            bad,
            "is damaged: it is missing, or not what was written",
            "Restore it, or remove the checkpoint's folder to use an earlier one.",
        )
    return folder


def damaged(folder: Path, runtime: Runtime) -> Path | None:
    """The first file of a checkpoint that is missing or has changed; every rank looks at its share of them. A collective.

    A mirror is fetched first, by each machine, and all of it looked at there; what is damaged only here is fetched again.
    """
    fetch(folder)
    rank, ranks = (runtime.rank, runtime.world_size) if origin(folder) is None else of_machine()
    marker = folder / COMMITTED
    # Read once: what one rank finds damaged, it may have renamed already.
    sums = runtime.on_main(lambda: _sums(folder) or (fetch_again(marker) and _sums(folder)) or None)
    if sums is None:
        return marker

    def same(name: str) -> bool:
        try:
            return checksum(folder / name) == sums[name]
        except OSError:
            return False

    mine = sorted(sums)[rank::ranks]
    found = runtime.gather([n for n in mine if not same(n) and not (fetch_again(folder / n) and same(n))])
    names = runtime.on_main(lambda: sorted(name for part in found for name in part))
    return folder / names[0] if names else None


def identity(checkpoints: Sequence[Path]) -> str:
    """What tells a checkpoint, or those of several models, from any other, also from one that another training wrote to the same
    place: a hash of the checksums of its files, or of all their hashes."""
    every = [hashlib.sha256(json.dumps(_sums(one), sort_keys=True).encode()).hexdigest() for one in checkpoints]
    return every[0] if len(every) == 1 else hashlib.sha256(json.dumps(every).encode()).hexdigest()


def _sums(folder: Path) -> dict[str, str] | None:
    """File -> its checksum; None where the marker that holds them is damaged."""
    try:
        marker = read_json(folder / COMMITTED, Committed)
    except UserError:
        return None
    return marker and marker["sha256"]


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published(files: Sequence[Path], folder: Path) -> dict[str, str] | UserError:
    """The checksums of a rank's files, when all are where a folder will be; or why one is not."""
    try:
        for path in files:
            publish(path, folder / path.name)
    except UserError as error:
        return error
    return {path.name: checksum(path) for path in files}


def together(parts: Sequence[dict[str, str] | UserError]) -> dict[str, str]:
    """The checksums of all ranks' files; raises what kept a rank from writing one."""
    sums: dict[str, str] = {}
    for part in parts:
        if isinstance(part, UserError):
            raise part
        sums |= part
    return sums


def remember_best(run: Path, state: dict[str, Any]) -> None:
    """Notes the checkpoint with this state as the best one, if its validation metric is above all earlier ones."""
    found = state.get("validation")
    if found is not None and found > read_json(run / BEST, Best, {}).get("validation", float("-inf")):
        write_json(run / BEST, {"step": state["step"], "validation": found})


def delete_old(run: Path, keep: int) -> None:
    """Removes all checkpoints but the ``keep`` newest and the best."""
    found = complete(run)
    kept = set(sorted(found)[-keep:]) | {read_json(run / BEST, Best, {}).get("step")}
    for step in set(found) - kept:
        remove_published(found[step])
        remove_local(found[step])
