"""What a fine-tuning begins with: a pretrained run's weights, in a model with other domains, features and more ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.contents.content_table import ContentTable, picked
from ...data.errors import UserError
from ...data.schema.layout import Layout, id_key
from ...data.vocabulary.vocabulary import Vocabulary
from ...model.foundation.transfer import axes_with_lookups_in_order, shapes_only, transferred
from ...model.layers.axes import Axes, axes_of
from ...model.representation.conditioning import condition, fit_conditioning
from ..ranks.runtime import Runtime
from ..run.checkpoint_reader import read_tensors, saved_tensors
from ..run.checkpoint_writer import DenseOptimizer
from ..run.kept_checkpoints import checked_best, members
from ..run.run_folder import order_of_lookups
from .changed_rows import ChangedRows, begin_anew, changed_rows
from .freezing import freeze_known_rows
from .grown_tables import GrownTables
from .optimizer_state import carry_optimizer_state
from .pretrained import Pretrained

_DENSE = "model.dense."
_FEW = 50  # rows with a content and an id that was seen often: with fewer, no map is fitted
_OFTEN = 5
_MOST = 100_000  # rows a map is fitted on
_RIDGE = 0.1


def begin_from(
    base: Pretrained,
    sharded: DistributedModelParallel,
    encoder: RowEncoder,
    runtime: Runtime,
    member: int = 0,
    optimizer: DenseOptimizer | None = None,
) -> list[str]:
    """Gives a model that holds its initial values those of a pretrained run, as far as both have the same.

    Tables keep their rows; new ids begin with what a linear map of their contents says, fitted on the known ids, and without
    any with initial values; so do rows that an id has given up. In the dense part names decide (`model.transfer`).

    Args:
        base: the pretrained run; its best checkpoint is used, from any number of ranks.
        sharded: the model to fine-tune.
        encoder: of its experiment, with statistics that extend those of ``base``.
        runtime: the process group.
        member: which of a run's models this is. It begins with that one of the pretrained run's, whose first follows its last.
        optimizer: of the dense part; where the experiment asks for it, this one and that of the tables go on as well.

    Returns:
        What was done, a line each.

    Raises:
        UserError: the run has no checkpoint, or a damaged one, or vectors are of another size there.
    """
    _check_sizes(base.layout, encoder.layout)
    name = runtime.on_main(lambda: (every := members(base.run))[member % len(every)].relative_to(base.run))
    checkpoint = checked_best(base.run / name, runtime)
    saved = saved_tensors(checkpoint)
    model = sharded.state_dict()
    tables = {name: value for name, value in model.items() if f"model.{name}" in saved and "embedding_bags." in name}
    dense = {name.removeprefix(_DENSE): torch.empty(of.size) for name, of in saved.items() if name.startswith(_DENSE)}
    read = {"model": tables | {f"dense.{name}": value for name, value in dense.items()}}
    read_tensors(checkpoint, read, GrownTables())
    experiment, changed = encoder.experiment, changed_rows(base, encoder.statistics, encoder.layout)
    begin_anew(tables, changed, experiment.seed, experiment.model.embedding_dim)
    told = _transfer(base, dense, model, encoder)
    for entity in encoder.layout.entities if encoder.layout.ids else ():
        if (contents := encoder.contents_of(entity)) and id_key(entity) in changed:
            of = changed[id_key(entity)]
            told += _begin_with_contents(entity, contents, base, tables, encoder, runtime, of)
    if experiment.init_optimizer and optimizer is not None:
        told.append(carry_optimizer_state(base, checkpoint, saved, sharded, optimizer, encoder, changed))
    if "L0" in experiment.training.freeze:
        freeze_known_rows(base, sharded, encoder.layout, changed)
    return told


def begin_with_conditioning(sharded: DistributedModelParallel, encoder: RowEncoder, runtime: Runtime) -> None:
    """Fits what contents go through first on the catalogs as they are now, and gives it to a model; where it is another run's
    that a training begins with, `begin_from` puts that in its place.
    """
    kind = encoder.experiment.model.content_conditioning
    if kind != "none":
        whiten = kind == "whiten"
        condition(sharded, runtime.on_main(lambda: fit_conditioning(encoder.contents, encoder.layout, whiten)))


def _check_sizes(before: Layout, now: Layout) -> None:
    """Raises a UserError where vectors of one name are not of one size in both."""
    for name in now.vectors.keys() & before.vectors.keys():
        if now.vectors[name] != before.vectors[name]:
            what = f"are of {now.vectors[name]} values, and of {before.vectors[name]} in the run that init_from names"
            raise UserError(f"vectors {name}", what, "Give them another name, or those of that run.")


def _transfer(base: Pretrained, old: dict[str, Tensor], model: dict[str, Any], encoder: RowEncoder) -> list[str]:
    """Puts the dense part's values in place."""
    experiment = encoder.experiment
    before = axes_with_lookups_in_order(
        shapes_only(base.layout, base.experiment.model), order_of_lookups(base.run) or ()
    )
    every = axes_of(shapes_only(encoder.layout, experiment.model))
    mixtures = base.mixtures(encoder.layout, encoder.statistics)
    _share_codes(base, experiment, old, before, every)
    anew = []
    for name, after in every.items():
        if name not in old:
            anew.append(name)
            continue
        value = transferred(old[name], before[name], after, mixtures)
        model[f"dense.{name}"].detach().copy_(value)
    for name in old.keys() - every.keys():  # no parameter: the basis in which a projection was learnt
        if (held := model.get(f"dense.{name}")) is not None:
            held.copy_(old[name])
    told = [f"{len(every) - len(anew)} of {len(every)} dense parameters from {base.run}"]
    told += [f"new, with initial values: {', '.join(anew)}"] if anew else []
    for name, parts in mixtures.items():
        most = sorted(parts.items(), key=lambda part: -part[1])[:3]
        told.append(f"domain {name} begins as " + " + ".join(f"{weight:.2f} {other}" for other, weight in most))
    return told


def _share_codes(
    base: Pretrained, experiment: Experiment, old: dict[str, Tensor], before: dict[str, Axes], after: dict[str, Axes]
) -> None:
    """Puts a decoder's embeddings of codes in the place of an aspect's, or an aspect's in that of a decoder's: where the codes are an
    aspect of items in one model and not in the other."""
    target = experiment.model.target
    if target is None or base.experiment.model.target != target:
        return
    aspect = f"represent.encoder.text_projections.{Stored('item', target).name}.embeddings.weight"
    own = "history.objective.decoder.codes"
    for name, other in ((aspect, own), (own, aspect)):
        if name in after and name not in old and other in old:
            old[name], before[name] = old[other], before[other]


def _begin_with_contents(
    entity: str,
    contents: Sequence[ContentTable],
    base: Pretrained,
    tables: dict[str, Any],
    encoder: RowEncoder,
    runtime: Runtime,
    changed: ChangedRows,
) -> list[str]:
    """Gives new ids what a ridge regression says of their contents side by side, fitted on ids that were seen often."""
    table = id_key(entity)
    known, now = base.statistics.tables.get(table), encoder.statistics.tables[table]
    if not isinstance(known, Vocabulary) or not isinstance(now, Vocabulary) or not len(changed.new):
        return []
    content_of_row = [np.full(now.rows, -1) for _ in contents]
    keys = now.keys
    for at, content in zip(content_of_row, contents, strict=True):
        at[now.lookup(keys)] = content.rows(keys)
    has_one = np.any([rows >= 0 for rows in content_of_row], 0)
    stays = np.ones(known.rows, bool)
    stays[np.concatenate([changed.left, changed.new[changed.new < known.rows]])] = False
    seen = np.flatnonzero((known.counts >= _OFTEN) & stays & has_one[: known.rows])[:_MOST]
    new = changed.new[has_one[changed.new]]
    found = f"{table}: {len(keys) - len(changed.new):,} ids kept, {len(changed.new):,} new"
    if len(seen) < _FEW or not len(new):
        return [found]

    def features(rows: np.ndarray) -> Tensor:
        found = [
            picked(content.vectors, at[rows])[0].double() for content, at in zip(contents, content_of_row, strict=True)
        ]
        return torch.cat([*found, torch.ones(len(rows), 1, dtype=torch.float64)], 1)

    shards = tables[f"embeddings.embedding_bags.{table}.weight"].local_shards()
    width = encoder.experiment.model.embedding_dim
    size = sum(content.vectors.shape[1] for content in contents) + 1
    sums = torch.zeros(size, size + width, dtype=torch.float64)  # x xᵀ and x yᵀ, each rank over the cells it holds
    for part in shards:
        (row, column), (rows, columns) = part.metadata.shard_offsets, part.metadata.shard_sizes
        here = seen[(seen >= row) & (seen < row + rows)]
        x = features(here)
        if column == 0:
            sums[:, :size] += x.T @ x
        y = part.tensor[torch.from_numpy(here - row).to(part.tensor.device)].double().cpu()
        sums[:, size + column : size + column + columns] += x.T @ y
    sums = runtime.sum(sums)
    ridge = torch.full((size,), _RIDGE * float(sums[:, :size].diagonal()[:-1].mean()), dtype=torch.float64)
    ridge[-1] = 0  # of the constant
    weights = torch.linalg.solve(sums[:, :size] + ridge.diag(), sums[:, size:])
    for part in shards:
        (row, column), (rows, columns) = part.metadata.shard_offsets, part.metadata.shard_sizes
        here = new[(new >= row) & (new < row + rows)]
        values = features(here) @ weights[:, column : column + columns]
        part.tensor[torch.from_numpy(here - row).to(part.tensor.device)] = values.to(part.tensor)
    return [f"{found}, {len(new):,} of them from their contents"]
