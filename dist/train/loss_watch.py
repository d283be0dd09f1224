"""Stopping a training whose loss is no longer a number, before it is saved."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ...data.batch.batch import Batch
from ...data.epoch.order import RankOrder
from ...data.errors import UserError
from ...data.events.event_files import EventFiles
from ...data.storage.local_writes import open_new
from ...data.storage.mirror import publish
from ..ranks.runtime import Runtime
from .observers import Observer, Step

BAD_ROWS = "bad_rows.rank{}.parquet"
_NEVER = 2**62


class LossWatch(Observer):
    """Remembers the first step with a loss that is not finite, on the device, so that no step waits for it."""

    def __init__(self, run: Path, files: Mapping[int, EventFiles], runtime: Runtime, every: int):
        """Args: the run folder, position of a domain -> its files, the process group, and every how many steps it looks."""
        self._run, self._files, self._runtime, self._every = run, files, runtime, every
        self._first = torch.tensor(_NEVER, device=runtime.device)
        (run / BAD_ROWS.format(runtime.rank)).unlink(missing_ok=True)

    def reading(self, order: RankOrder, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Takes note of this rank's order, whose rows it may have to name."""
        self._order = order
        return batches

    def after_step(self, step: Step) -> None:
        """Takes note of whether the step's losses are numbers."""
        outputs = step.outputs
        fine = torch.isfinite(outputs.losses).all() & torch.isfinite(outputs.alignment)
        fine &= torch.isfinite(outputs.next_item).all()
        if outputs.list_losses is not None:
            fine &= torch.isfinite(outputs.list_losses).all()
        self._first = torch.where(fine, self._first, self._first.clamp(max=step.at))
        if step.number % self._every == 0:
            self.before_saving()

    def before_saving(self) -> None:
        """On every rank, before what was learned is kept.

        Raises:
            UserError: a loss was not finite. Ranks where it was so first have written the rows of that batch.
        """
        mine = self._first.cpu()
        at = int(self._runtime.least(mine))
        if at == _NEVER:
            return
        if mine == at:
            written = self._run / BAD_ROWS.format(self._runtime.rank)
            with open_new(written) as file:
                pq.write_table(self._rows(at), file)
            publish(written)
        self._runtime.barrier()
        found = sorted(path.name for path in self._run.glob(BAD_ROWS.format("*")))
        raise UserError(
            self._run,
            f"the loss is no longer a number; the rows of the first such batch are in {', '.join(found)}",
            "Look at these rows, or lower training.learning_rate or training.sparse_learning_rate; run again, and the training "
            "resumes from the newest checkpoint, which is from before.",
        )

    def _rows(self, at: int) -> pa.Table:
        places = self._order.locations(at)
        columns = {
            "file": [self._files[domain].files[file] for domain, file, _, _ in places],
            "row_group": [group for _, _, group, _ in places],
            "row": [row for _, _, _, row in places],
        }
        return pa.table(columns)
