"""Checkpoints: torch.distributed.checkpoint, written beside the training, complete only with their COMMITTED marker."""

import hashlib
import json
import os
import re
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.planner import WriteItem
from torchrec.distributed import DistributedModelParallel

from ..data.errors import UserError
from .optimizer import Optimizer
from .run_folder import read_json, sync, write_json
from .runtime import Runtime

_COMMITTED, _STATE, _DENSE, _BEST = "COMMITTED", "state.json", "dense_optimizer.pt", "best.json"
_NAME = re.compile(r"step_(\d{8,})")


class Checkpoints:
    """Writes the checkpoints of a training, one at a time, while the training goes on."""

    def __init__(self, run: Path, keep: int, runtime: Runtime):
        """A collective: every rank makes one.

        Args:
            run: the run folder.
            keep: newest checkpoints kept, the best one besides.
            runtime: the process group.
        """
        self._run, self._keep, self._runtime = run, keep, runtime.apart()
        for left in self._runtime.on_main(lambda: list((run / "checkpoints").glob(".step_*.tmp"))):
            shutil.rmtree(left, ignore_errors=True)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, sharded: DistributedModelParallel, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Copies what is to be saved to the host's memory, and has it written and committed in a thread.

        Args:
            sharded: the model; its tables and its fused optimizer's state are written by the ranks that hold them.
            optimizer: its dense state is written by rank 0.
            state: JSON values; ``step`` names the checkpoint. A ``validation_auc`` above all earlier ones makes it the best.

        Raises:
            UserError: the checkpoint before could not be written.
        """
        self.wait()
        tensors = _tensors(sharded, sharded.fused_optimizer.state_dict())
        snapshot = _Snapshot(tensors, self._runtime.is_main)
        dense = _copied(optimizer.dense_state()) if self._runtime.is_main else {}
        self._writing = self._thread.submit(self._write, tensors, snapshot, dense, state)

    def wait(self) -> None:
        """Waits until what is being written is committed.

        Raises:
            UserError: it could not be written; earlier checkpoints are as they were.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(
        self, tensors: dict[str, Any], snapshot: "_Snapshot", dense: dict[str, Any], state: dict[str, Any]
    ) -> None:
        runtime = self._runtime
        folder = self._run / "checkpoints" / f"step_{state['step']:08d}"
        temporary = folder.with_name(f".{folder.name}.tmp")

        def commit(sums: dict[str, str]) -> None:
            torch.save(dense, temporary / _DENSE)
            write_json(temporary / _STATE, state)
            sums |= {name: _checksum(temporary / name) for name in (_DENSE, _STATE)}
            for file in temporary.iterdir():
                sync(file)
            _remove(folder)
            os.replace(temporary, folder)
            sync(folder.parent)
            write_json(folder / _COMMITTED, {"sha256": sums})
            _remember_best(self._run, state)
            _delete_old(self._run, self._keep)

        try:
            runtime.on_main(lambda: shutil.rmtree(temporary, ignore_errors=True))
            state_dict_saver.save(tensors, checkpoint_id=temporary, planner=snapshot, process_group=runtime.group)
            files = sorted(path for path in temporary.iterdir() if path.is_file())
            mine = {path.name: _checksum(path) for path in files[runtime.rank :: runtime.world_size]}
            parts = runtime.gather(mine)
            runtime.on_main(lambda: commit({name: of for part in parts for name, of in part.items()}))
        except (CheckpointException, OSError, RuntimeError) as error:
            if runtime.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                folder,
                f"cannot be written ({_reason(error)})",
                "Free some space or mend the disk; run again, the training goes on from the newest checkpoint.",
            ) from error


class _Snapshot(DefaultSavePlanner):
    """Saves tensors as they were when it was made, however they change before they are written."""

    def __init__(self, tensors: dict[str, Any], is_main: bool):
        super().__init__()
        self.set_up_planner(tensors, is_coordinator=is_main)
        resolve = super().resolve_data
        self._held = {item.index: _copied(resolve(item)) for item in self.create_local_plan().items}

    def resolve_data(self, write_item: WriteItem) -> Any:
        return self._held[write_item.index]


def _copied(value: Any) -> Any:
    """Tensors on the host, in memory of their own, in whatever dicts and lists they are."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _reason(error: BaseException) -> str:
    """What went wrong, in the words of the rank where it did."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_newest(
    run: Path, sharded: DistributedModelParallel, optimizer: Optimizer, runtime: Runtime
) -> dict[str, Any] | None:
    """Restores the newest checkpoint that is as it was written; its ``state``, or None where there is no checkpoint.

    A damaged one is told of and set aside: it is no longer a complete one.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    complete = runtime.on_main(lambda: _complete(run))
    for step in sorted(complete, reverse=True):
        bad = _damaged(complete[step], runtime)
        if bad is None:
            return load(complete[step], sharded, optimizer)
        if runtime.is_main:
            print(f"{bad} is damaged; going back to the checkpoint before", file=sys.stderr)
            os.replace(complete[step] / _COMMITTED, complete[step] / "DAMAGED")
    if complete:
        raise UserError(
            run, "all its checkpoints are damaged", "Restore one, or train into another folder with --run-dir."
        )
    return None


def check(folder: Path, runtime: Runtime) -> None:
    """Finds out whether a checkpoint is as it was written.

    Raises:
        UserError: a file of it is missing or has changed.
    """
    if (bad := _damaged(folder, runtime)) is not None:
        raise UserError(
            bad,
            "is damaged: it is missing, or not what was written",
            "Restore it, or remove the checkpoint's folder to use an earlier one.",
        )


def _damaged(folder: Path, runtime: Runtime) -> Path | None:
    """The first file that is missing or has changed; every rank looks at its share of the files."""
    sums = runtime.on_main(lambda: _sums(folder))  # read once: what one rank finds damaged, it may have renamed already
    if sums is None:
        return folder / _COMMITTED

    def bad(name: str) -> bool:
        path = folder / name
        try:
            return _checksum(path) != sums[name]
        except OSError:
            return True

    found = runtime.gather([name for name in sorted(sums)[runtime.rank :: runtime.world_size] if bad(name)])
    names = runtime.on_main(lambda: sorted(name for part in found for name in part))
    return folder / names[0] if names else None


def _sums(folder: Path) -> dict[str, str] | None:
    """File -> its checksum; None where the marker that holds them is damaged."""
    try:
        return read_json(folder / _COMMITTED)["sha256"]
    except (ValueError, KeyError, TypeError):
        return None


def load(folder: Path, sharded: DistributedModelParallel, optimizer: Optimizer | None = None) -> dict[str, Any]:
    """Restores the model and, where given, the optimizer; any number of ranks and any plan. Returns the ``state``."""
    sparse = sharded.fused_optimizer.state_dict() if optimizer is not None else {"state": {}}
    tensors = _tensors(sharded, sparse)
    moments = _take_moments_of_another_plan(tensors, folder)
    state_dict_loader.load(tensors, checkpoint_id=folder)
    sharded.load_state_dict(tensors["model"])
    if optimizer is not None:
        for moment in moments:
            moment.put_back()
        sharded.fused_optimizer.load_state_dict(sparse)
        optimizer.load_dense_state(torch.load(folder / _DENSE, weights_only=True, map_location="cpu"))
    return json.loads((folder / _STATE).read_text())


@dataclass
class _Moment:
    """A row-wise moment whose saved size is not the one this plan needs.

    Each column shard of a table has a moment per row of its own, and a state dict lays these end to end: ``[shards x
    rows]``. Another number of column shards gets their mean, which is the moment over all columns.
    """

    states: dict[str, Any]
    name: str
    rows: int
    planned: Any

    def put_back(self) -> None:
        mean = self.states[self.name].view(-1, self.rows).mean(0)
        for part in self.planned.local_shards():
            start = part.metadata.shard_offsets[0]
            at = torch.arange(start, start + part.metadata.shard_sizes[0]) % self.rows
            part.tensor.copy_(mean[at])
        self.states[self.name] = self.planned


def _take_moments_of_another_plan(tensors: dict[str, Any], folder: Path) -> list[_Moment]:
    """Puts tensors of the saved size in the place of those that are planned with another size."""
    saved: dict[str, Any] = FileSystemReader(folder).read_metadata().state_dict_metadata
    out = []
    for parameter, states in tensors.get("sparse_optimizer", {}).items():
        for name, planned in list(states.items()):
            size = saved[f"sparse_optimizer.{parameter}.{name}"].size
            if size != planned.size():
                out.append(_Moment(states, name, tensors["model"][parameter].size(0), planned))
                states[name] = torch.empty(size)
    return out


def best(run: Path) -> Path:
    """The checkpoint with the best validation AUC; the newest where none was validated.

    Raises:
        UserError: the run has no complete checkpoint.
    """
    found = _complete(run)
    if not found:
        raise UserError(run, "has no complete checkpoint", "Train it first: foundrank train EXPERIMENT --run-dir RUN")
    step = read_json(run / _BEST, {}).get("step")
    return found.get(step, found[max(found)])


def _tensors(sharded: DistributedModelParallel, sparse: dict[str, Any]) -> dict[str, Any]:
    """What torch.distributed.checkpoint writes and reads; SGD has no state, and an empty dict would be a missing key."""
    states = {parameter: states for parameter, states in sparse["state"].items() if states}
    return {"model": sharded.state_dict()} | ({"sparse_optimizer": states} if states else {})


def _complete(run: Path) -> dict[int, Path]:
    folders = (run / "checkpoints").glob("step_*")
    return {int(m[1]): f for f in folders if (m := _NAME.fullmatch(f.name)) and (f / _COMMITTED).is_file()}


def _remember_best(run: Path, state: dict[str, Any]) -> None:
    auc = state.get("validation_auc")
    if auc is not None and auc > read_json(run / _BEST, {}).get("validation_auc", -1.0):
        write_json(run / _BEST, {"step": state["step"], "validation_auc": auc})


def _delete_old(run: Path, keep: int) -> None:
    found = _complete(run)
    kept = set(sorted(found)[-keep:]) | {read_json(run / _BEST, {}).get("step")}
    for step in set(found) - kept:
        _remove(found[step])


def _remove(folder: Path) -> None:
    (folder / _COMMITTED).unlink(missing_ok=True)  # first, so that a half-deleted checkpoint is not a complete one
    shutil.rmtree(folder, ignore_errors=True)
