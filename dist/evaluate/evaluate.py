"""Evaluation: exact metrics per domain, task and slice, over all ranks."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.arrow.column_types import LABELS, WEIGHT
from ...data.arrow.ids import id_keys
from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.errors import UserError
from ...data.events.bad_rows import read_good_rows
from ...data.events.event_files import EventFiles
from ...data.schema.bad_values import check_share
from ...data.schema.column_needs import needed_columns
from ...data.schema.labels import read_labels, read_weights
from ...data.schema.layout import Layout, id_key
from ...data.storage.mirror import publish
from ...model.representation.owner_vectors import owners_and_aspects
from ...model.tasks.metrics import apart
from ...model.tasks.task_columns import TaskColumns
from ..logs import prometheus
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.checkpoint_writer import load
from ..run.kept_checkpoints import checked_best, identity
from ..run.run_folder import EVALUATION, open_statistics, write_json
from ..sharding.shard import shard
from .measures import measures_of
from .next_item_metrics import next_item_rows
from .popularity import PopularityCounts
from .predictions import predictions
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


def predict(
    model: nn.Module, encoder: RowEncoder, files: Mapping[str, EventFiles], runtime: Runtime
) -> tuple[dict[str, np.ndarray], dict[str, Any], int]:
    """Predicts every row of ``files``; all predictions come together on rank 0, about 40 bytes a row. Arguments as `evaluate`.

    Returns:
        On rank 0: columns ``[N]`` or ``[N, T]`` (domain, labels, mask, scores (NaN where no number came out), counts, item, oracle/TASK,
        user as of `metrics.apart`, list and list_known; weights, where metrics are weighted), gate weights and bad rows as of
        `evaluate`. Elsewhere: empty.

    Raises:
        UserError: as `evaluate`.
    """
    layout = encoder.layout
    rows = sum(events.rows for events in files.values())
    if not rows:
        return {}, {}, 0
    columns: dict[str, list[np.ndarray]] = {}
    tasks = TaskColumns(layout.task_kinds, layout.task_scales, layout.task_parents)
    weighted = any(domain.weighted_metrics for domain in encoder.experiment.domains.values())
    gates = _GateMeans(len(layout.domains))
    was_training = model.training
    model.eval()
    for outputs, batch in predictions(model, encoder, files, runtime):
        gates.add(batch.domains, outputs.gates, torch.from_numpy(~batch.host["bad"]))
        kept = batch.host | {
            "domain": batch.domains.numpy(),
            "labels": batch.labels.numpy(),
            "mask": batch.label_mask.numpy(),
            "counts": batch.id_counts.numpy(),
            "scores": tasks.scores(outputs.logits.float()).cpu().numpy(),
        }
        if batch.weights is not None and weighted:
            kept["weights"] = batch.weights.numpy()
        for name, values in kept.items():
            columns.setdefault(name, []).append(values)
    model.train(was_training)
    local = {name: np.concatenate(parts) for name, parts in columns.items()}
    predicted = (np.isfinite(local["scores"]) & local["mask"]).sum()
    counted = runtime.sum(torch.tensor([local.pop("bad").sum(), local["mask"].sum(), predicted]))
    skipped, labelled, predicted = map(int, counted)
    policy = encoder.experiment.bad_data
    check_share(skipped, rows, policy, "the events to evaluate")
    if labelled and not predicted:
        raise UserError(
            "the model",
            f"gives no finite score for any of the {labelled:,} labels to evaluate",
            "Look for values that are very large, or train again with lower learning rates.",
        )
    everyone = runtime.gather(local)
    gate_means = gates.means(encoder, runtime)
    if not runtime.is_main:
        return {}, {}, 0
    merged = {name: np.concatenate([part[name] for part in everyone if name in part]) for name in everyone[0]}
    merged["user"] = apart(merged["user"], merged.pop("user_known"))
    return merged, gate_means, skipped


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


def popularity_counts(
    experiment: Experiment,
    encoder: RowEncoder,
    events: Mapping[str, Mapping[str, EventFiles]],
    runtime: Runtime,
    progress: Callable[[int], None] = lambda rows: None,
) -> PopularityCounts:
    """Counts the training events, each rank some of the row groups; ``progress`` is told of the rows of all ranks."""
    layout = encoder.layout
    items = encoder.statistics.tables[id_key("item")]
    counts = PopularityCounts(items.rows, len(layout.domains), len(layout.tasks))
    for d, name in enumerate(layout.domains):
        files, tasks = events[name]["train"], experiment.domains[name].tasks
        needs = needed_columns(experiment, name)
        columns = [experiment.entities.item.id, *(need.name for need in needs if need.holds in (*LABELS, WEIGHT))]
        for path, group in files.row_groups[runtime.rank :: runtime.world_size]:
            table = read_good_rows(path, group, needs, columns, experiment.bad_data)
            keys, has_item = id_keys(table[experiment.entities.item.id])
            rows = np.where(has_item, items.lookup(keys), 0)  # without an item they count for the domain's rate alone
            for task_name in tasks:
                labels = read_labels(experiment.domains[name], task_name, table)
                known = ~np.isnan(labels)
                if (weights := read_weights(experiment.domains[name], task_name, table)) is not None:
                    known &= weights > 0
                counts.add(d, layout.tasks.index(task_name), rows[known], labels[known])
            progress(table.num_rows * runtime.world_size)
    counts.counts = runtime.sum(torch.from_numpy(counts.counts)).numpy()
    return counts


class _GateMeans:
    """Mean gate weights per domain, summed batch by batch on the device."""

    def __init__(self, domains: int):
        self._domains = domains
        self._sums: dict[str, Tensor] = {}

    def add(self, domains: Tensor, gates: Mapping[str, Tensor], counted: Tensor) -> None:
        for owner, weights in gates.items():
            domains, counted = domains.to(weights.device), counted.to(weights.device)
            # The extra column counts the rows where the owner has any aspect at all.
            present = torch.cat([weights.float(), (weights.sum(1, keepdim=True) > 0).float()], 1)
            present = torch.where(counted[:, None] & present.isfinite().all(1, keepdim=True), present, 0)
            zeros = torch.zeros(self._domains, present.shape[1], device=present.device)
            self._sums[owner] = self._sums.get(owner, zeros).index_add(0, domains, present)

    def means(self, encoder: RowEncoder, runtime: Runtime) -> dict[str, dict[str, dict[str, float]]]:
        """domain -> owner -> aspect -> mean weight over the rows where the owner has an aspect."""
        out: dict[str, dict[str, dict[str, float]]] = {}
        for owner, sums in self._sums.items():
            total = runtime.sum(sums).cpu()
            aspects = owners_and_aspects(encoder.layout, encoder.experiment.model.aspects)[owner]
            for name, row in zip(encoder.layout.domains, total.tolist(), strict=True):
                if row[-1] > 0:
                    out.setdefault(name, {})[owner] = {a: w / row[-1] for a, w in zip(aspects, row[:-1], strict=True)}
        return out
