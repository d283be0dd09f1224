"""The optimizer's state of a pretrained run, for the rows and parameters that both runs have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchrec.distributed import DistributedModelParallel

from ...data.batch.row_encoder import RowEncoder
from ...model.foundation.transfer import shapes_only, transferred
from ...model.layers.axes import axes_of, levels_of
from ..run.checkpoint_reader import read_tensors
from ..run.checkpoint_writer import DenseOptimizer, dense_state_in
from ..run.moments import rows_of_moment, take_moments_of_another_plan
from .changed_rows import ChangedRows
from .grown_tables import GrownTables
from .pretrained import Pretrained

_SPARSE = "sparse_optimizer.embeddings.embedding_bags."


def carry_optimizer_state(
    base: Pretrained,
    checkpoint: Path,
    saved: Mapping[str, Any],
    sharded: DistributedModelParallel,
    optimizer: DenseOptimizer,
    encoder: RowEncoder,
    changed: Mapping[str, ChangedRows],
) -> str:
    """Gives a training's optimizers what the pretrained run's have learned of the gradients. What is new begins as it does without it.

    Args:
        base: the pretrained run.
        checkpoint: its folder, of any number of ranks.
        saved: name -> what the checkpoint says of the tensor.
        sharded: the model to fine-tune.
        optimizer: of its dense part.
        encoder: of its experiment.
        changed: rows of tables whose ids are others; their states begin anew.

    Returns:
        What was done, in a line.

    Raises:
        UserError: what the checkpoint has is damaged.
    """
    of_rows = _carry_sparse(checkpoint, saved, sharded, encoder, changed)
    of_dense = _carry_dense(base, checkpoint, optimizer, encoder)
    return f"the optimizer's state of {of_rows:,} rows and {of_dense} dense parameters goes on"


def _carry_sparse(
    checkpoint: Path,
    saved: Mapping[str, Any],
    sharded: DistributedModelParallel,
    encoder: RowEncoder,
    changed: Mapping[str, ChangedRows],
) -> int:
    fused = sharded.fused_optimizer
    state, model = fused.state_dict(), sharded.state_dict()
    # Of this rank's tables, of which it may have none.
    known = {name: of for name, of in state["state"].items() if of and f"model.{name}" in saved}
    tensors = {"model": model, "sparse_optimizer": known}
    moments = take_moments_of_another_plan(tensors, saved)
    kept = {name.removeprefix(_SPARSE).rpartition(".weight.")[0] for name in saved if name.startswith(_SPARSE)}
    if kept:
        read_tensors(checkpoint, {"sparse_optimizer": known} if known else {}, GrownTables())
    for moment in moments:
        moment.put_back()
    for name, of in known.items():
        table = name.split("embedding_bags.")[1].removesuffix(".weight")
        anew = torch.from_numpy(np.union1d(changed[table].left, changed[table].new))
        size = encoder.layout.tables[table]
        for part in (part for moment in of.values() for part in moment.local_shards()):
            part.tensor[torch.isin(rows_of_moment(part, size), anew).to(part.tensor.device)] = 0
    fused.load_state_dict(state)
    tables = {table: of for table, of in changed.items() if table in kept}
    return sum(encoder.layout.tables[table] - len(np.union1d(of.left, of.new)) for table, of in tables.items())


def _carry_dense(base: Pretrained, checkpoint: Path, optimizer: DenseOptimizer, encoder: RowEncoder) -> int:
    kept = dense_state_in(checkpoint)["state"]
    old, new = shapes_only(base.layout, base.experiment.model), shapes_only(encoder.layout, encoder.experiment.model)
    before, after = axes_of(old), axes_of(new)
    mixtures = base.mixtures(encoder.layout, encoder.statistics)
    there = {name: kept[at] for at, name in enumerate(_in_groups(old)) if at in kept}
    state, carried = optimizer.dense_state(), {}
    for at, name in enumerate(optimizer.names):
        if name in there:
            carried[at] = {
                what: transferred(value, before[name], after[name], mixtures) if value.dim() else value
                for what, value in there[name].items()
            }
    optimizer.load_dense_state(state | {"state": carried})
    return len(carried)


def _in_groups(dense: Any) -> list[str]:
    """Parameters in the order of an optimizer that has a group for each level."""
    levels = levels_of(dense)
    return [name for level in sorted({*levels.values()}) for name in levels if levels[name] == level]
