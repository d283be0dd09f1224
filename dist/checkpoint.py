"""Checkpoints: torch.distributed.checkpoint, complete only with their COMMITTED marker."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torchrec.distributed import DistributedModelParallel

from ..data.errors import UserError
from .optimizer import Optimizer
from .run_folder import read_json, write_json
from .runtime import Runtime

_COMMITTED, _STATE, _DENSE, _BEST = "COMMITTED", "state.json", "dense_optimizer.pt", "best.json"
_NAME = re.compile(r"step_(\d{8,})")


def save(
    run: Path,
    sharded: DistributedModelParallel,
    optimizer: Optimizer,
    state: dict[str, Any],
    keep: int,
    runtime: Runtime,
) -> Path:
    """Writes a checkpoint beside the others, commits it, then deletes what is no longer kept.

    Args:
        run: the run folder.
        sharded: the model; its tables and its fused optimizer's state are written by the ranks that hold them.
        optimizer: its dense state is written by rank 0.
        state: JSON values; ``step`` names the checkpoint. A ``validation_auc`` above all earlier ones makes it the best.
        keep: newest checkpoints kept, the best one besides.
        runtime: the process group.
    """
    folder = run / "checkpoints" / f"step_{state['step']:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    runtime.on_main(lambda: shutil.rmtree(temporary, ignore_errors=True))
    state_dict_saver.save(_tensors(sharded, sharded.fused_optimizer.state_dict()), checkpoint_id=temporary)

    def commit() -> None:
        torch.save(optimizer.dense_state(), temporary / _DENSE)
        write_json(temporary / _STATE, state)
        for file in temporary.iterdir():
            _sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        (folder / _COMMITTED).touch()
        _sync(folder)
        _remember_best(run, state)
        _delete_old(run, keep)

    runtime.on_main(commit)
    return folder


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


def latest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = _complete(run)
    return found[max(found)] if found else None


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
        (found[step] / _COMMITTED).unlink()  # first, so that a half-deleted checkpoint is not a complete one
        shutil.rmtree(found[step], ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
