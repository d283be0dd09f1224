"""What a model says of every row of a split, each rank's on that rank, and what its gates listen to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batch.row_encoder import RowEncoder
from ...data.errors import UserError
from ...data.events.event_files import EventFiles
from ...data.schema.bad_values import check_share
from ...model.representation.owner_vectors import owners_and_aspects
from ...model.tasks.group_metrics import apart
from ...model.tasks.task_columns import TaskColumns
from ..ranks.runtime import Runtime
from .predictions import predictions


def predict(
    model: nn.Module, encoder: RowEncoder, files: Mapping[str, EventFiles], runtime: Runtime
) -> tuple[dict[str, np.ndarray], dict[str, Any], int]:
    """Predicts every row of ``files``, each rank its share, of about 40 bytes a row. Arguments as `evaluate`.

    Returns:
        Columns ``[N]`` or ``[N, T]`` of this rank's rows, domain after domain and in the order of their files, those of each domain after
        the rows of the rank before (domain, labels, mask, scores (NaN
        where no number came out), counts, item, oracle/TASK, user as of `group_metrics.apart` and user_known, list and list_known; weights,
        where metrics are weighted); gate weights and bad rows of all ranks, as of `evaluate`. No columns where there are no rows at all.

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
    local = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
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
    by_file = in_order_of_files(local)
    rows_of = np.array([files[name].rows if name in files else 0 for name in layout.domains])
    place = (np.cumsum(rows_of) - rows_of)[by_file["domain"]] + by_file.pop("row")
    by_file["user"] = apart(by_file["user"], by_file["user_known"], place)
    return by_file, gates.means(encoder, runtime), skipped


def in_order_of_files(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of a rank's batches one after the other, of which one is ``domain``: by domain, and within it in the order of its files.

    The columns given are used up, one by one, for there is not to be room for all of them twice.
    """
    order = np.argsort(columns["domain"], kind="stable")
    return {name: columns.pop(name)[order] for name in list(columns)}


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
