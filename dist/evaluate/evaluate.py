"""Evaluation: exact metrics per domain, task and slice, over all ranks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from ...data.batch.row_encoder import RowEncoder
from ...data.events.event_files import EventFiles
from ...data.schema.layout import Layout
from ...data.storage.mirror import publish
from ..logs import prometheus
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.checkpoint_writer import load
from ..run.kept_checkpoints import checked_best, identity
from ..run.run_folder import EVALUATION, open_statistics, write_json
from ..sharding.shard import shard
from .measures import measures_of
from .next_item_metrics import next_item_rows
from .popularity import PopularityCounts, popularity_counts
from .predict import predict
from .prepare import EvaluationJob
from .slices import slice_rows


def evaluate_run(job: EvaluationJob, runtime: Runtime) -> dict[str, Any]:
    """Evaluates a run's best checkpoint on a split and writes ``evaluation.json``.

    Returns:
        On rank 0 what was written; elsewhere an empty dict.

    Raises:
        UserError: a damaged checkpoint, or bad events.
    """
    experiment, run, split, events = job.experiment, job.folder, job.split, job.events
    prometheus.label(command="evaluate", experiment=experiment.name, run=str(job.run))
    statistics = open_statistics(run, experiment)
    checkpoint = checked_best(run, runtime)
    encoder = RowEncoder(experiment, statistics)
    with Progress("loading the model and its tables", main=runtime.is_main):
        sharded = shard(encoder.layout, experiment, runtime)
        state = load(checkpoint, sharded)
    files = {name: of_domain[split] for name, of_domain in events.items() if split in of_domain}
    rows, gates, skipped = [], {}, 0
    if encoder.layout.tasks:
        rows_to_count = sum(of_domain["train"].rows for of_domain in events.values())
        with Progress("counting for the baseline", "rows", rows_to_count, main=runtime.is_main) as done:
            popularity = popularity_counts(experiment, encoder, events, runtime, done.add)
        rows, gates, skipped = evaluate(sharded, encoder, files, runtime, popularity)
    result = {
        "split": split,
        "step": state["step"],
        "checkpoint": identity(checkpoint),
        "tasks": measures_of(encoder.layout),
        "rows": rows,
        "gates": gates,
        "skipped": skipped,
    }
    if encoder.layout.candidates:
        result["next_item"] = next_item_rows(sharded, encoder, files, runtime)
    if runtime.is_main:
        write_json(run / EVALUATION, result)
        publish(run / EVALUATION)
    return result if runtime.is_main else {}


def evaluate(
    model: nn.Module,
    encoder: RowEncoder,
    files: Mapping[str, EventFiles],
    runtime: Runtime,
    popularity: PopularityCounts | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Predicts every row of ``files`` and measures.

    Args:
        model: sharded or not; returned in the mode it came in.
        encoder: of the experiment.
        files: domain -> files.
        runtime: the process group.
        popularity: the baseline's counts, to report its headline beside the model's.

    Returns:
        On rank 0: the metric rows, domain -> owner -> aspect -> mean gate weight, and the number of bad rows, which no
        metric counts. Elsewhere: empty.

    Raises:
        UserError: bad data, more of it than `bad_data` allows, or nothing that the model predicts is a number.
    """
    columns, gates, skipped = predict(model, encoder, files, runtime)
    return (_rows(encoder, columns, popularity) if columns else []), gates, skipped


def validation_score(layout: Layout, rows: list[dict[str, Any]]) -> float | None:
    """One number to choose a checkpoint by, more being better: the mean of `Task.validation` over all domains and tasks that
    have one, each with its weight. Of binary tasks the mean AUC.
    """
    tasks = dict(zip(layout.tasks, layout.task_kinds, strict=True))
    found = [tasks[row["task"]].validation(row) for row in rows if row["slice"] == "all"]
    known = [each for each in found if each is not None]
    if not known:
        return None
    values, weights = zip(*known, strict=True)
    return float(np.average(values, weights=weights))


def _rows(
    encoder: RowEncoder, columns: dict[str, np.ndarray], popularity: PopularityCounts | None
) -> list[dict[str, Any]]:
    layout, experiment = encoder.layout, encoder.experiment
    out = []
    for d, name in enumerate(layout.domains):
        domain = experiment.domains[name]
        for task_name, task in domain.tasks.items():
            t = layout.tasks.index(task_name)
            where = (columns["domain"] == d) & columns["mask"][:, t]
            if not where.any():
                continue
            oracle = columns.get(f"oracle/{task_name}")
            out += slice_rows(
                name,
                task_name,
                task,
                columns["labels"][where, t],
                columns["scores"][where, t],
                item_counts=columns["counts"][where, layout.entities.index("item")],
                user_counts=columns["counts"][where, layout.entities.index("user")],
                user_groups=columns["user"][where],
                list_groups=columns["list"][where] if domain.list_column else None,
                in_list=columns["list_known"][where],
                oracle=oracle[where] if oracle is not None else None,
                popularity=popularity.scores(d, t)[columns["item"][where]] if popularity else None,
                weights=columns["weights"][where, t] if domain.weighs_metrics_of(task_name) else None,
            )
    return out
