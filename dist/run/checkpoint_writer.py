"""Checkpoints: torch.distributed.checkpoint, written beside the training, complete only with their COMMITTED marker."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torchrec.distributed import DistributedModelParallel

from ...data.errors import UserError
from ...data.machine.limits import free_memory
from ...data.storage.local_writes import sync
from ...data.storage.mirror import origin, publish, shown
from ...model.foundation.foundation import dense_part
from ...model.foundation.transfer import axes_with_lookups_in_order, transferred
from ...model.layers.axes import axes_of
from ..logs import prometheus
from ..logs.records import warning
from ..ranks.environment import of_machine
from ..ranks.runtime import Runtime
from .checkpoint_planner import Planner, copied
from .checkpoint_reader import read_plain, read_tensors, saved_tensors
from .finite import not_finite
from .kept_checkpoints import (
    STATE,
    checksum,
    complete,
    damaged,
    delete_old,
    folder_of,
    published,
    remember_best,
    remove_local,
    remove_published,
    set_aside,
    together,
)
from .moments import take_moments_of_another_plan
from .old_runs import FORMAT
from .run_documents import State
from .run_folder import CHECKPOINTS, COMMITTED, order_of_lookups, publish_run, read_json, write_json

_DENSE = "dense_optimizer.pt"
_OF_DENSE = "model.dense."
_GOES_ON = "run again to resume from the newest checkpoint."


class DenseOptimizer(Protocol):
    """What is kept and restored of the dense part's optimizer; the tables' one is fused into the model.

    Attributes:
        names: of the dense part's parameters that learn, in the order of its state.
    """

    names: list[str]

    def dense_state(self) -> dict[str, Any]:
        """Its state, tensors and plain values."""
        ...

    def load_dense_state(self, state: dict[str, Any]) -> None:
        """Restores what `dense_state` gave."""
        ...


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
        for left in (run / CHECKPOINTS).glob(".step_*.tmp"):  # never a link: `check_new_or_same` has seen to it
            shutil.rmtree(left, ignore_errors=True)
        runtime.barrier()
        device = runtime.device
        on_device = partial(torch.cuda.set_device, device) if device.type == "cuda" else None  # which is a thread's own
        self._thread, self._told = ThreadPoolExecutor(1, "checkpoint", on_device), False
        self._writing: Future[None] | None = None

    def save(
        self, sharded: DistributedModelParallel, optimizer: DenseOptimizer, state: dict[str, Any], last: bool = False
    ) -> bool:
        """Copies what is to be saved to the host's memory, and has it written and committed in a thread. A collective.

        Where a rank has no memory for the copy, it is written as it is, a tensor at a time.

        Args:
            sharded: the model; its tables and its fused optimizer's state are written by the ranks that hold them.
            optimizer: its dense state is written by rank 0.
            state: JSON values; ``step`` names the checkpoint. A ``validation`` above all earlier ones makes it the best.
            last: nothing is learned any more before `close`, so no copy is needed.

        Returns:
            Whether there is no copy: nothing may be learned before `wait`.

        Raises:
            UserError: the checkpoint before could not be written.
        """
        self.wait()
        tensors = _tensors(sharded, sharded.fused_optimizer.state_dict())
        planner = Planner(tensors, self._runtime.is_main)
        dense = optimizer.dense_state() if self._runtime.is_main else {}
        needed, room = planner.bytes(), free_memory(of_machine()[1])
        # Together: a rank that went on while another waits would be taken for stalled.
        lacking = [] if last else [(n, r) for n, r in self._runtime.gather_all((needed, room)) if n > r]
        if lacking and not self._told and self._runtime.is_main:
            self._told = True
            n, r = lacking[0]
            warning(
                f"a copy of what a checkpoint holds does not fit the memory ({n / 2**30:.1f} GiB of a rank, {r / 2**30:.1f} are free): "
                "the training waits while checkpoints are written"
            )
        if not last and not lacking:
            planner.copy()
            dense = copied(dense)
        self._writing = self._thread.submit(self._write, tensors, planner, dense, state)
        return last or bool(lacking)

    def check(self, sharded: DistributedModelParallel, optimizer: DenseOptimizer) -> None:
        """Looks at what the last update has left, before it is validated or saved: a loss is from before it. A collective.

        Raises:
            UserError: a weight, or what the optimizer keeps of one, is NaN or infinite.
        """
        tensors = _tensors(sharded, sharded.fused_optimizer.state_dict()) | {"optimizer": optimizer.dense_state()}
        if (name := not_finite(tensors)) is not None:
            self.wait()  # for the one before, which is good
            raise UserError(
                self._run,
                f"an update has left values that are NaN or infinite ({name}); they are not saved",
                f"Lower training.learning_rate or training.sparse_learning_rate; {_GOES_ON}",
            )

    def close(self) -> None:
        """Waits, and gives back what this has made to write beside the training. A collective.

        Raises:
            UserError: as `wait`.
        """
        self.wait()
        self._thread.shutdown()
        self._runtime.leave()

    def wait(self) -> None:
        """Waits until what is being written is committed.

        Raises:
            UserError: it could not be written; earlier checkpoints are as they were.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, tensors: dict[str, Any], planner: "Planner", dense: dict[str, Any], state: dict[str, Any]) -> None:
        runtime = self._runtime
        folder = folder_of(self._run, state["step"])
        temporary = folder.with_name(f".{folder.name}.tmp")

        def commit(sums: dict[str, str]) -> None:
            torch.save(dense, temporary / _DENSE)
            write_json(temporary / STATE, state | {"format": FORMAT})
            sums |= {name: checksum(temporary / name) for name in (_DENSE, STATE)}
            for file in temporary.iterdir():
                sync(file)
            for name in (_DENSE, STATE):
                publish(temporary / name, folder / name)
            remove_local(folder)
            os.replace(temporary, folder)
            sync(folder.parent)
            write_json(folder / COMMITTED, {"sha256": sums})
            remember_best(self._run, state)
            publish_run(self._run)
            prometheus.note("foundrank_training_checkpoint_time_seconds", time.time())
            delete_old(self._run, self._keep)

        def begin() -> None:
            shutil.rmtree(temporary, ignore_errors=True)
            remove_published(folder)

        try:
            runtime.on_main(begin)
            # A tensor at a time: copies ahead of the writing would take page-locked memory where there are GPUs.
            writer = FileSystemWriter(temporary, per_thread_copy_ahead=0)
            state_dict_saver.save(tensors, storage_writer=writer, planner=planner, process_group=runtime.group)
            mine = [*temporary.glob(f"__{runtime.rank}_*"), *([temporary / ".metadata"] if runtime.is_main else [])]
            parts = runtime.gather(published(mine, folder))
            runtime.on_main(lambda: commit(together(parts)))
            if origin(folder) is not None:  # other machines have written into folders of their own
                shutil.rmtree(temporary, ignore_errors=True)
        except (UserError, CheckpointException, OSError, RuntimeError) as error:
            if runtime.is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, UserError):
                raise UserError(error.where, error.what, f"{error.remedy} Then {_GOES_ON}") from error
            raise UserError(
                folder,
                f"cannot be written ({_reason(error)})",
                f"Free some space or mend the disk; {_GOES_ON}",
            ) from error


def _reason(error: BaseException) -> str:
    """What went wrong, in the words of the rank where it did."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def load_newest(
    run: Path, sharded: DistributedModelParallel, optimizer: DenseOptimizer, runtime: Runtime
) -> dict[str, Any] | None:
    """Restores the newest checkpoint that is as it was written; its ``state``, or None where there is no checkpoint.

    A damaged one is told of and set aside: it is no longer a complete one.

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    steps = runtime.on_main(lambda: sorted(complete(run), reverse=True))
    for step in steps:
        folder = folder_of(run, step)
        bad = damaged(folder, runtime)
        if bad is None:
            return load(folder, sharded, optimizer)
        if runtime.is_main:
            warning(f"{shown(bad)} is damaged; going back to the checkpoint before")
            set_aside(folder)
    if steps:
        raise UserError(
            run, "all its checkpoints are damaged", "Restore one, or train into another folder with --run-dir."
        )
    return None


def load(folder: Path, sharded: DistributedModelParallel, optimizer: DenseOptimizer | None = None) -> dict[str, Any]:
    """Restores the model and, where given, the optimizer; any number of ranks and any plan. Returns the ``state``."""
    sparse = sharded.fused_optimizer.state_dict() if optimizer is not None else {"state": {}}
    tensors = _tensors(sharded, sparse)
    saved = saved_tensors(folder)
    _check_names(folder, saved, tensors["model"])
    moments = take_moments_of_another_plan(tensors, saved)
    read_tensors(folder, tensors)
    state = read_json(folder / STATE, State)
    if "format" not in state and (order := order_of_lookups(folder.parents[1])) is not None:
        _put_in_order(tensors["model"], sharded, order)
    sharded.load_state_dict(tensors["model"])
    if optimizer is not None:
        for moment in moments:
            moment.put_back()
        sharded.fused_optimizer.load_state_dict(sparse)
        optimizer.load_dense_state(dense_state_in(folder))
    return state


def dense_state_in(folder: Path) -> dict[str, Any]:
    """What a checkpoint has of the dense part's optimizer.

    Raises:
        UserError: it is damaged.
    """
    return read_plain(folder / _DENSE)


def _check_names(folder: Path, saved: Iterable[str], model: Iterable[str]) -> None:
    """Raises a UserError where the checkpoint has weights of the dense part that the model has no place for: others mean something else
    without them."""
    if lost := {name for name in saved if name.startswith(_OF_DENSE)} - {f"model.{name}" for name in model}:
        what = f"has weights that today's model has no place for ({min(lost).removeprefix(_OF_DENSE)}), as an earlier version's had"
        raise UserError(shown(folder), what, "Train it again; docs/reference/advisories.md says why.")


def _put_in_order(model: dict[str, Any], sharded: DistributedModelParallel, order: Sequence[str]) -> None:
    """Weights of an older version that were trained for lookups in another order, as this one needs them."""
    dense = dense_part(sharded)
    new, old = axes_of(dense), axes_with_lookups_in_order(dense, order)
    for name in new:
        model[f"dense.{name}"].copy_(transferred(model[f"dense.{name}"], old[name], new[name], {}))


def _tensors(sharded: DistributedModelParallel, sparse: dict[str, Any]) -> dict[str, Any]:
    """What torch.distributed.checkpoint writes and reads; SGD has no state, and an empty dict would be a missing key."""
    states = {parameter: states for parameter, states in sparse["state"].items() if states}
    return {"model": sharded.state_dict()} | ({"sparse_optimizer": states} if states else {})
