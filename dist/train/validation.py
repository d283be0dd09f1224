"""What the checkpoints of a training are chosen by, and when it ends before its last epoch."""

from pathlib import Path
from typing import Any

from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from ...data.batch.row_encoder import RowEncoder
from ..evaluate.evaluate import evaluate, validation_score
from ..evaluate.measures import measures_of
from ..evaluate.next_item_metrics import mean_ndcg, next_item_rows
from ..logs.records import info, warning
from ..ranks.runtime import Runtime
from ..run.run_documents import Validation
from ..run.run_folder import VALIDATION, read_json, write_json
from .prepare import Events


def validate(
    sharded: DistributedModelParallel,
    encoder: RowEncoder,
    events: Events,
    run: Path,
    step: int,
    epoch: float,
    runtime: Runtime,
    allowed: Tensor | None = None,
) -> float | None:
    """What checkpoints are chosen by, on rank 0: `validation_score`, or, without tasks, NDCG@10 of the next item.

    Its parts are added to ``validation.json``. None elsewhere, and without a validation split. ``epoch`` is how many are over,
    and ``allowed`` as of `next_item_ranks`.
    """
    files = {name: of_domain["validation"] for name, of_domain in events.items() if "validation" in of_domain}
    rows, *_ = evaluate(sharded, encoder, files, runtime) if encoder.layout.tasks else ([],)
    found = next_item_rows(sharded, encoder, files, runtime, allowed) if encoder.layout.finds_next and files else []
    if overflowed := sum(row["overflowed"] for row in [*rows, *found] if row["slice"] == "all"):
        warning(f"{overflowed:,} predictions of the validation split came out as no number: they are in no metric")
    if runtime.is_main and (rows or found):
        old = read_json(run / VALIDATION, Validation, {})
        stamp = {"step": step, "epoch": epoch}
        added = {"rows": rows, "next_item": found}
        kept = {name: [row for row in old.get(name, []) if row.get("step", 0) < step] for name in added}
        every = {name: kept[name] + [stamp | row for row in added[name]] for name in added}
        write_json(run / VALIDATION, {"tasks": measures_of(encoder.layout)} | every)
    return validation_score(encoder.layout, rows) if encoder.layout.tasks else mean_ndcg(found)


class Patience:
    """When a training ends before its last epoch: after some validations in a row that were no better than the best before.

    Counts the validations since the best one; the same on every rank, and in every checkpoint.

    The schedule of the learning rates is over all of ``epochs`` all the same: when a training will end is not known before.
    One that validates as well as the best so far is no better. One without a number does not count.
    """

    def __init__(self, patience: int | None, runtime: Runtime, state: dict[str, Any] | None = None):
        """Args: ``training.patience``, the process group, and the state of the checkpoint that a training goes on from."""
        before = (state or {}).get("patience") or {}
        self._patience, self._runtime = patience, runtime
        self._best: float | None = before.get("best")
        self._since: int = before.get("since", 0)

    @property
    def is_over(self) -> bool:
        """Whether to end the training."""
        return self._patience is not None and self._since >= self._patience

    def judge(self, validation: float | None) -> None:
        """Takes note of a validation's score, which rank 0 alone knows. A collective."""
        if self._patience is None:
            return
        found = self._runtime.on_main(lambda: validation)
        if found is None:
            return
        better = self._best is None or found > self._best
        self._best, self._since = (found, 0) if better else (self._best, self._since + 1)
        if self.is_over and self._runtime.is_main:
            after = "the last validation was" if self._since == 1 else f"the last {self._since} validations were"
            info(
                f"{after} no better than the best, {self._best:.4f}: the training ends here",
                "patience",
                best=self._best,
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {} if self._patience is None else {"patience": {"best": self._best, "since": self._since}}
