"""What a version of a run is worth on events that it has not seen."""

from typing import Any

from ...data.config.kinds import Kinds
from ...data.events.event_files import EventFiles
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored
from ..evaluate.evaluate import load_best, predict_run, validation_score
from ..evaluate.measured import measured_rows
from ..evaluate.next_item_metrics import mean_ndcg, metric_rows
from ..evaluate.prepare import EvaluationJob
from ..exchange.over_ranks import OverRanks
from ..ranks.runtime import Runtime
from ..run.run_folder import open_experiment

_SPLIT = "test"


def measured(run: Location, files: dict[str, EventFiles], kinds: Kinds, runtime: Runtime) -> dict[str, Any]:
    """Measures a run's best checkpoint on some files. A collective.

    Args:
        run: its folder.
        files: domain -> files, which may be none.
        kinds: what its experiment could choose from.
        runtime: the process group.

    Returns:
        On rank 0: ``score``, one number to compare versions by, of which more is better, or None where there is none; ``rows`` and, where a
        next item is sought, ``next_item``, as of ``evaluation.json``. Elsewhere nothing of use.

    Raises:
        UserError: bad events, or a run that is damaged.
    """
    experiment = runtime.on_main(lambda: open_experiment(mirrored(run, "read"), kinds))
    events = {
        name: {"train": of_domain} | ({_SPLIT: of_domain} if of_domain.rows else {})
        for name, of_domain in files.items()
    }
    job = EvaluationJob(experiment, run, _SPLIT, events)
    opened = load_best(job, runtime)
    layout, found = opened.encoder.layout, predict_run(job, opened, runtime)
    rows = measured_rows(opened.encoder, found.columns, runtime) if found.columns else []
    next_item = metric_rows(found.ranks, layout, (), OverRanks(runtime)) if found.ranks else []
    score = validation_score(layout, rows) if layout.tasks else mean_ndcg(next_item)
    return {"score": score, "rows": rows} | ({"next_item": next_item} if layout.finds_next else {})
