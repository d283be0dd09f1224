"""What the checkpoints of a training are chosen by."""

from pathlib import Path

from torchrec.distributed import DistributedModelParallel

from ...data.batch.row_encoder import RowEncoder
from ..evaluate.evaluate import evaluate, validation_score
from ..evaluate.measures import measures_of
from ..evaluate.next_item_metrics import mean_ndcg, next_item_rows
from ..logs.records import warning
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
) -> float | None:
    """What checkpoints are chosen by, on rank 0: `validation_score`, or, without tasks, NDCG@10 of the next item.

    Its parts are added to ``validation.json``. None elsewhere, and without a validation split. ``epoch`` is how many are over.
    """
    files = {name: of_domain["validation"] for name, of_domain in events.items() if "validation" in of_domain}
    rows, *_ = evaluate(sharded, encoder, files, runtime) if encoder.layout.tasks else ([],)
    found = next_item_rows(sharded, encoder, files, runtime) if encoder.layout.candidates and files else []
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
