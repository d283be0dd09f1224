"""Evaluation: exact metrics per domain, task and slice, over all ranks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from ...data.batch.row_encoder import RowEncoder
from ...data.events.event_files import EventFiles
from ...data.schema.layout import Layout
from ...data.storage.mirror import publish
from ..exchange.over_ranks import OverRanks
from ..exchange.row_encoders import row_encoder
from ..logs import prometheus
from ..logs.progress import Progress
from ..predictor.predictor import checked_members, predictor
from ..ranks.runtime import Runtime
from ..retrieval.candidates import allowed_items
from ..run.kept_checkpoints import identity
from ..run.run_folder import EVALUATION, open_statistics, write_json
from ..sharding.shard import shard
from .column_slices import read_slices
from .measured import measured_rows
from .measures import mean_validation, measures_of
from .next_item_metrics import metric_rows, next_item_ranks
from .popularity import PopularityCounts, popularity_counts
from .predict import predict
from .prediction_file import predictions_file, told_of, write_predictions
from .predictions import shares
from .prepare import EvaluationJob


@dataclass(frozen=True)
class Opened:
    """A run's best checkpoint, in memory.

    Attributes:
        encoder: of the run.
        model: that predicts; of a run of several models, all of them as one.
        step: of the checkpoint.
        told: what predictions are made from, as of `prediction_file.told_of`.
    """

    encoder: RowEncoder
    model: nn.Module
    step: int
    told: dict[str, Any]


@dataclass(frozen=True)
class Predicted:
    """What a run's best checkpoint says of a split, of this rank's rows.

    Attributes:
        columns: as of `predict`; none where there are no tasks.
        gates: as of `predict`, of all ranks.
        skipped: bad rows of all ranks.
        ranks: as of `next_item_ranks`; none where no next item is sought.
    """

    columns: dict[str, np.ndarray]
    gates: dict[str, Any]
    skipped: int
    ranks: dict[str, np.ndarray]


def evaluate_run(job: EvaluationJob, runtime: Runtime) -> dict[str, Any]:
    """Evaluates a run's best checkpoint on a split and writes ``evaluation.json``, and predictions, where the job keeps them.

    Of a run of several models their mean is evaluated.

    Returns:
        On rank 0 what was written; elsewhere an empty dict.

    Raises:
        UserError: a damaged checkpoint, or bad events.
    """
    opened = load_best(job, runtime)
    layout, popularity = opened.encoder.layout, None
    if layout.tasks:
        rows_to_count = sum(of_domain["train"].rows for of_domain in job.events.values())
        with Progress("counting for the baseline", "rows", rows_to_count, main=runtime.is_main) as done:
            popularity = popularity_counts(job.experiment, opened.encoder, job.events, runtime, done.add)
    found, spread = predict_run(job, opened, runtime, lists=True), OverRanks(runtime)
    share = shares(opened.encoder, job.files, runtime)
    slices = read_slices(job.slices, job.files, layout.domains, job.experiment.bad_data, share, spread)
    rows = measured_rows(opened.encoder, found.columns, runtime, popularity, slices) if found.columns else []
    next_item = metric_rows(found.ranks, layout, slices, spread) if found.ranks else []
    if not runtime.is_main:
        return {}
    result = {
        "split": job.split,
        "step": opened.step,
        "checkpoint": opened.told["checkpoint"],
        "tasks": measures_of(layout),
        "rows": rows,
        "gates": found.gates,
        "skipped": found.skipped,
        "slices": {column: list(of.names) for column, of in zip(job.slices, slices, strict=True)},
    }
    if layout.finds_next:
        result["protocol"] = opened.told["protocol"]
        result["next_item"] = next_item
    write_json(job.folder / EVALUATION, result)
    publish(job.folder / EVALUATION)
    return result


def load_best(job: EvaluationJob, runtime: Runtime) -> Opened:
    """Loads a run's best checkpoint.

    Raises:
        UserError: a damaged checkpoint, statistics, catalog or content store.
    """
    experiment, run = job.experiment, job.folder
    prometheus.label(command="evaluate", experiment=experiment.name, run=str(job.run))
    statistics = open_statistics(run, experiment)
    checkpoints = checked_members(run, experiment, runtime)
    told = runtime.on_main(lambda: told_of(job, identity(checkpoints)))
    encoder = row_encoder(experiment, statistics, runtime, job.split == "train")
    with Progress("loading the model and its tables", main=runtime.is_main):
        models = [shard(encoder.layout, experiment, runtime) for _ in checkpoints]
        model, state = predictor(models, checkpoints)
    return Opened(encoder, model, state["step"], told)


def predict_run(job: EvaluationJob, opened: Opened, runtime: Runtime, lists: bool = False) -> Predicted:
    """What a run's best checkpoint says of a split, and of ``lists``; it is written into the run's folder, where the job keeps it. A collective.

    Raises:
        UserError: as `evaluate_run`.
    """
    encoder, model, files, protocol = opened.encoder, opened.model, job.files, job.protocol
    columns, gates, skipped = predict(model, encoder, files, runtime) if encoder.layout.tasks else ({}, {}, 0)
    ranks, told = {}, opened.told
    if encoder.layout.finds_next:
        train = {name: of_domain["train"] for name, of_domain in job.events.items() if "train" in of_domain}
        allowed = allowed_items(protocol, encoder, train, runtime)
        ranks, among = next_item_ranks(model, encoder, files, runtime, protocol, allowed, lists)
        told = told | {"candidates": {domain: asdict(of) for domain, of in among.items()}}
    if job.keeps:
        write_predictions(predictions_file(job.folder, job.split), columns | ranks, encoder.layout, told, runtime)
    return Predicted(columns, gates, skipped, ranks)


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
    rows = measured_rows(encoder, columns, runtime, popularity) if columns else []
    return (rows, gates, skipped) if runtime.is_main else ([], {}, 0)


def validation_score(layout: Layout, rows: list[dict[str, Any]]) -> float | None:
    """One number to choose a checkpoint by, more being better: the mean of `Task.validation` over all domains and tasks that
    have one, each with its weight. Of binary tasks the mean AUC.
    """
    tasks = dict(zip(layout.tasks, layout.task_kinds, strict=True))
    return mean_validation(tasks[row["task"]].validation(row) for row in rows if row["slice"] == "all")
