"""From encoded rows of several domains to one batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from ..arrow.values import Ragged, take_ragged
from ..contents.content_table import picked
from ..groups.groups import groups_of
from ..schema.layout import HISTORY, Layout, id_key
from .batch import Batch
from .item_features import Described, ItemFeatures, undescribed
from .past_items import NONE, ItemCounts, Items, Past, past_of
from .result_lists import result_lists
from .rows import Rows, join_ragged


def assemble(
    parts: Sequence[Rows],
    layout: Layout,
    content_vectors: Mapping[str, Tensor],
    padded: int,
    item_counts: ItemCounts,
    candidates: Items = NONE,
    item_features: ItemFeatures | None = None,
    target: str | None = None,
) -> Batch:
    """One batch of rows of several domains.

    Args:
        parts: at most one piece per domain, at least one piece in all (it may be empty).
        layout: the layout of the experiment.
        content_vectors: name in ``Batch.vectors`` -> ``[contents, size]``, those of the content tables.
        padded: P, bags per key; at least the number of rows.
        item_counts: of the item table.
        candidates: items that belong to no row.
        item_features: of past items and candidates; None where they have none.
        target: name of the vectors of the codes that the next item is found by; None: it is found by its vector.
    """
    parts = sorted(parts, key=lambda part: part.domain)
    lengths = [0] * len(layout.domains)
    for part in parts:
        lengths[part.domain] = len(part)
    rows = sum(lengths)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    vectors, present = {}, {}
    for name in parts[0].vectors:
        vectors[name] = torch.from_numpy(np.concatenate([p.vectors[name] for p in parts]))
        present[name] = torch.from_numpy(np.concatenate([p.vector_present[name] for p in parts]))
    for name, stored in content_vectors.items():
        vectors[name], present[name] = picked(stored, np.concatenate([p.content_rows[name] for p in parts]))
    for content, name in layout.contents_of.get(HISTORY, {}).items():
        of_items = layout.contents_of["item"][content]
        values, offsets = join_ragged([p.history[of_items] for p in parts if of_items in p.history])
        vectors[name] = _mean_rows(content_vectors[of_items], values, offsets)
        present[name] = torch.from_numpy(np.diff(offsets) > 0)
    past, described = None, undescribed(0)
    if layout.past:
        item_at = layout.keys.index(id_key("item"))
        described = _describe(parts, candidates, item_features)
        past = past_of(parts, layout, item_counts, content_vectors, item_at, candidates, described)
    return Batch(
        sparse=_sparse(parts, layout, rows, padded, past, described.lookups),
        dense=torch.from_numpy(np.ascontiguousarray(joined("dense"))),
        vectors=vectors,
        vector_present=present,
        id_counts=torch.from_numpy(joined("id_counts")),
        labels=torch.from_numpy(joined("labels")),
        label_mask=torch.from_numpy(joined("label_mask")),
        domains=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
        domain_lengths=lengths,
        host={name: np.concatenate([p.host[name] for p in parts]) for name in parts[0].host},
        past=past,
        weights=None if parts[0].weights is None else torch.from_numpy(joined("weights")),
        lists=result_lists([part.begins_list for part in parts], [len(part) for part in parts]),
        groups=groups_of(
            [part.groups for part in parts],
            [len(part) for part in parts],
            None if target is None else content_vectors[target],
        ),
    )


def _describe(parts: Sequence[Rows], candidates: Items, features: ItemFeatures | None) -> Described:
    """Past items, and candidates behind them."""
    if features is None:
        past, _ = join_ragged([part.lists[HISTORY] for part in parts])
        return undescribed(len(past) + len(candidates))
    past, _ = join_ragged([part.history["catalog"] for part in parts])
    return features.at(np.concatenate([past, candidates.catalog_rows]))


def _sparse(
    parts: Sequence[Rows],
    layout: Layout,
    rows: int,
    padded: int,
    past: Past | None,
    of_items: Mapping[str, Ragged],
) -> KeyedJaggedTensor:
    singles = np.concatenate([p.singles.T for p in parts], 1)
    filled = singles >= 0
    if not layout.ids:
        singles[: len(layout.entities)] = np.minimum(singles[: len(layout.entities)], 0)
    lengths = np.zeros((len(layout.keys), padded), np.int32)
    lengths[: layout.singles, :rows] = filled
    values = [singles.reshape(-1) if filled.all() else singles[filled]]
    for number, key in enumerate(layout.lists, layout.singles):
        lists = [p.lists[key] for p in parts]
        values += [of_part[offsets[0] : offsets[-1]] for of_part, offsets in lists]
        if key == HISTORY and not layout.ids:
            values[-len(lists) :] = [np.zeros_like(of_part) for of_part in values[-len(lists) :]]
        np.concatenate([np.diff(offsets) for _, offsets in lists], out=lengths[number, :rows], casting="same_kind")
    if past is not None:
        first = behind = layout.singles + len(layout.lists)
        # Columns are keys, from the newest on; candidates fill bag after bag.
        of_rows = np.full((rows, layout.past), -1, np.int64)
        of_rows.reshape(-1)[past.at.numpy()] = past.rows.numpy()
        of_rows = of_rows[:, ::-1].T
        if layout.ids:
            behind += layout.past + layout.candidates
            lengths[first : first + layout.past, :rows] = of_rows >= 0
            lengths[first + layout.past : behind].reshape(-1)[: len(past.candidates)] = 1
            values += [of_rows[of_rows >= 0], past.candidates.numpy()]
        for key in layout.past_features:
            of_key = lengths[behind : (behind := behind + layout.past + layout.candidates)]
            values += _put_feature(of_key, past, layout.past, *of_items[key])
        if layout.attention:
            own = singles[layout.keys.index(id_key("item"))]
            lengths[behind : behind + layout.past, :rows] = of_rows >= 0
            lengths[-1, :rows] = own >= 0
            values += [of_rows[of_rows >= 0], own[own >= 0]]
    per_key = lengths.sum(1).tolist()
    return KeyedJaggedTensor(
        keys=list(layout.keys),
        values=torch.from_numpy(np.concatenate(values, dtype=np.int64)),
        weights=_weights(parts, layout, per_key) if layout.weighted_lists else None,
        lengths=torch.from_numpy(lengths.reshape(-1)),
        stride=padded,
        length_per_key=per_key,  # or TorchRec would fetch them from the GPU, in every step
    )


def _weights(parts: Sequence[Rows], layout: Layout, per_key: Sequence[int]) -> Tensor:
    """Float32 of each lookup: 1 but in lists with weights; ``per_key`` is how many lookups each key has."""
    out = np.ones(sum(per_key), np.float32)
    starts = np.cumsum([0, *per_key])
    for key in layout.weighted_lists:
        at = layout.keys.index(key)
        out[starts[at] : starts[at + 1]] = join_ragged([part.list_weights[key] for part in parts])[0]
    return torch.from_numpy(out)


def _put_feature(
    lengths: np.ndarray, past: Past, columns: int, values: np.ndarray, offsets: np.ndarray
) -> list[np.ndarray]:
    """Fills the lengths ``[past keys + candidate keys, P]`` of one feature; its values in the order of the keys.

    Args:
        lengths: a view of the batch's.
        past: the items.
        columns: L, past keys.
        values: table rows of past items and of candidates behind them, with ``offsets``.
    """
    row, back = past.at.numpy() // columns, columns - 1 - past.at.numpy() % columns
    each, items = np.diff(offsets), len(row)
    lengths[back, row] = each[:items]
    lengths[columns:].reshape(-1)[: len(past.candidates)] = each[items:]
    by_key = np.lexsort((row, back))
    return [take_ragged(values, offsets[: items + 1], by_key)[0], values[offsets[items] :]]


def _mean_rows(table: Tensor, values: np.ndarray, offsets: np.ndarray) -> Tensor:
    """``[N, size]`` means of the table's rows each ragged row names; zeros for an empty one."""
    return torch.nn.functional.embedding_bag(
        torch.from_numpy(values), table, torch.from_numpy(offsets), mode="mean", include_last_offset=True
    )
