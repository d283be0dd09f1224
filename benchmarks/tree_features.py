"""The matrix a careful user of gradient-boosted trees would make of a domain's events.

It holds what foundrank sees, and the crosses trees cannot find by themselves. Rows of all splits are made in one go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from foundrank.data.arrow.values import Ragged
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.batch.rows import Rows
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.sections.entities import TEXT
from foundrank.data.features.feature import feature_key
from foundrank.data.schema.layout import HISTORY, Layout, content_key, id_key

from .target_encoding import TargetEncoding

COMPONENTS = 16
_CHUNK = 1024

Columns = dict[str, NDArray]


@dataclass(frozen=True)
class ItemProfile:
    """Catalog features of the items of the training events, so that histories can be compared with the row's item.

    Attributes:
        of_key: key -> ``[rows of the item table]`` int64 value; -1 where unknown.
    """

    of_key: Mapping[str, NDArray[np.int64]]


def item_profile(experiment: Experiment, layout: Layout, train: Sequence[Rows]) -> ItemProfile:
    """Reads the profile off the training rows of all domains: an item in a history was in some domain's training rows."""
    item = experiment.entities.item
    from_catalog = [n for n, f in item.features.items() if f.kind == "categorical" and item.comes_from_catalog(f)]
    item_at = layout.keys.index(id_key("item"))
    of_key = {}
    for key in map(feature_key, from_catalog):
        values = np.full(layout.tables[id_key("item")], -1, np.int64)
        for rows in train:
            values[np.maximum(rows.singles[:, item_at], 0)] = rows.singles[:, layout.keys.index(key)]
        values[0] = -1  # row 0 is every unknown item, and of rows without one
        of_key[key] = values
    return ItemProfile(of_key)


def shared_columns(rows: Rows, training: NDArray, encoder: RowEncoder, profile: ItemProfile) -> Columns:
    """Columns that are the same for every task.

    Dense features, how often each id was seen in training in any domain, list lengths, how often the history holds the
    row's item (and how long ago) and items with its catalog features, cosines between texts, principal components of
    texts.

    Args:
        rows: N rows of one domain.
        training: ``[N]`` bool, the rows principal components are fitted on.
        encoder: gives the layout and the text stores.
        profile: of the items.

    Returns:
        name -> ``[N]``; NaN where missing.
    """
    layout = encoder.layout
    columns: Columns = {f"dense {name}": rows.dense[:, i] for i, name in enumerate(layout.dense)}
    columns |= {f"count {name}": rows.id_counts[:, i] for i, name in enumerate(layout.entities)}
    columns |= {f"length {key}": np.diff(offsets) for key, (_, offsets) in rows.lists.items()}
    if layout.history:
        columns |= _history_crosses(rows, layout, profile)
    return columns | _text_columns(rows, training, encoder)


def target_columns(rows: Rows, layout: Layout, task: int, folds: NDArray[np.int64]) -> Columns:
    """Target encodings for one task: every single id, pairs of who asks and what is shown, every list.

    Args:
        rows: N rows of one domain.
        layout: of the experiment.
        task: position of the task.
        folds: ``[N]`` from `make_folds`.

    Returns:
        name -> ``[N]`` smoothed rate or number of training rows.
    """
    labels, known = rows.labels[:, task], rows.label_mask[:, task]
    codes = {key: rows.singles[:, at] for at, key in enumerate(layout.keys[: layout.singles])}
    sizes = {key: layout.tables[layout.table_of[key]] for key in codes}
    for who in (id_key("user"), id_key("query")):
        for what in (id_key("item"), *(key for key in layout.sparse_of["item"] if key in codes)):
            if who in codes and (codes[who] >= 0).any():
                name = f"{who} x {what}"
                codes[name], sizes[name] = _pair(codes[who], codes[what])
    columns: Columns = {}
    for name, values in codes.items():
        encoding = TargetEncoding.fit(values, sizes[name], labels, known, folds)
        columns[f"rate {name}"], columns[f"rows {name}"] = encoding.encode(values, folds)
        if name == id_key("item") and layout.history:
            columns["rate of the history's items"] = encoding.encode_lists(rows.lists[HISTORY], folds)
    for key, (values, offsets) in rows.lists.items():
        row = np.repeat(np.arange(len(rows)), np.diff(offsets))
        size = layout.tables[layout.table_of[key]]
        encoding = TargetEncoding.fit(values, size, labels[row], known[row], folds[row])
        columns[f"rate {key}"] = encoding.encode_lists((values, offsets), folds)
    return columns


def matrix(columns: Columns, training: NDArray) -> tuple[NDArray[np.float32], list[str]]:
    """Stacks columns, without those that are constant in training (features of other domains).

    Args:
        columns: name -> ``[N]``.
        training: positions of the training rows.

    Returns:
        ``[N, columns]`` float32, NaN where missing, and the columns' names.
    """

    def varies(values: NDArray) -> bool:
        values = values[training]
        missing = np.isnan(values)
        held = values[~missing]
        return bool(len(held)) and (bool(missing.any()) or bool((held != held[0]).any()))

    names = [name for name, values in columns.items() if varies(np.asarray(values, np.float32))]
    return np.column_stack([np.asarray(columns[name], np.float32) for name in names]), names


def _pair(first: NDArray, second: NDArray) -> tuple[NDArray[np.int64], int]:
    """Codes of pairs; -1 where either is missing, or unknown and so no one pair."""
    valid = (first > 0) & (second > 0)
    joined = first * (int(second.max(initial=0)) + 1) + second
    distinct, inverse = np.unique(np.where(valid, joined, -1), return_inverse=True)
    return np.where(valid, inverse, -1), len(distinct)


def _history_crosses(rows: Rows, layout: Layout, profile: ItemProfile) -> Columns:
    values, offsets = rows.lists[HISTORY]
    lengths = np.diff(offsets)
    row = np.repeat(np.arange(len(rows)), lengths)
    item = rows.singles[:, layout.keys.index(id_key("item"))]

    def matches(of_history: NDArray, of_row: NDArray) -> NDArray[np.bool_]:
        return (of_history == of_row[row]) & (of_history > 0)

    same = matches(values, item)
    ago = np.full(len(rows), np.nan)
    at = np.flatnonzero(same)
    ago[row[at]] = offsets[row[at] + 1] - at  # of several, the last one stays: the newest
    columns: Columns = {"history holds item": np.bincount(row[same], minlength=len(rows)), "item last seen ago": ago}
    for key, value_of_item in profile.of_key.items():
        count = np.bincount(
            row[matches(value_of_item[values], rows.singles[:, layout.keys.index(key)])], minlength=len(rows)
        )
        columns[f"history holds {key}"] = count
        columns[f"share of history with {key}"] = np.divide(
            count, lengths, out=np.full(len(rows), np.nan), where=lengths > 0
        )
    return columns


def _text_columns(rows: Rows, training: NDArray, encoder: RowEncoder) -> Columns:
    layout = encoder.layout
    columns: Columns = {}
    unit: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
    history = rows.history.get(content_key("item", TEXT))
    for name in layout.vectors:
        owner = next((owner for owner, of in layout.contents_of.items() if of.get(TEXT) == name), None)
        if owner == HISTORY:
            continue
        if name in encoder.contents:
            used = [rows.content_rows[name]] + ([history[0]] if owner == "item" and history is not None else [])
            distinct = np.unique(np.concatenate(used))
            distinct = distinct[distinct >= 0]
            table = encoder.contents[name].vectors.numpy()[distinct].astype(np.float32)
            at = np.where(rows.content_rows[name] >= 0, np.searchsorted(distinct, rows.content_rows[name]), -1)
            if owner == "item" and history is not None:
                history = (np.searchsorted(distinct, history[0]), history[1])
        else:
            table, at = rows.vectors[name], np.where(rows.vector_present[name], np.arange(len(rows)), -1)
        if not (at[training] >= 0).any():
            continue
        columns |= {f"{name} component {i}": c for i, c in enumerate(_components(table, at, training))}
        if owner is not None:
            unit[owner] = (_unit(table), at)
    pairs = [(a, b) for i, a in enumerate(unit) for b in list(unit)[i + 1 :]]
    for a, b in pairs:
        if unit[a][0].shape[1] == unit[b][0].shape[1]:
            columns[f"cosine of {a} and {b}"] = _cosines(unit[a], unit[b])
    if history is not None and "item" in unit:
        table = unit["item"][0]
        mean = (_unit(_means(table, history)), np.where(np.diff(history[1]) > 0, np.arange(len(rows)), -1))
        for owner, (vectors, at) in unit.items():
            if vectors.shape[1] == table.shape[1]:
                columns[f"cosine of {owner} and history"] = _cosines((vectors, at), mean)
        columns["nearest in history to item"] = _nearest(unit["item"], history)
    return columns


def _components(table: NDArray[np.float32], at: NDArray[np.int64], training: NDArray) -> NDArray[np.float32]:
    """``[COMPONENTS, N]`` principal components, fitted on the distinct vectors of training rows; NaN where missing."""
    fitted = table[np.unique(at[training & (at >= 0)])]
    centre = fitted.mean(0)
    _, directions = np.linalg.eigh(np.cov(fitted - centre, rowvar=False) if len(fitted) > 1 else np.eye(len(centre)))
    projected = (table - centre) @ directions[:, ::-1][:, :COMPONENTS].astype(np.float32)
    return np.where(at >= 0, projected[np.maximum(at, 0)].T, np.nan)


def _cosines(first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray]) -> NDArray[np.float32]:
    (a, a_at), (b, b_at) = first, second
    out = np.full(len(a_at), np.nan, np.float32)
    both = np.flatnonzero((a_at >= 0) & (b_at >= 0))
    for at in np.array_split(both, max(1, len(both) // (16 * _CHUNK))):
        out[at] = np.einsum("nd,nd->n", a[a_at[at]], b[b_at[at]])
    return out


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _means(table: NDArray[np.float32], lists: Ragged) -> NDArray[np.float32]:
    """``[N, D]`` mean of the vectors each row names; zeros for an empty row."""
    values, offsets = map(torch.from_numpy, lists)
    bags = functional.embedding_bag(values, torch.from_numpy(table), offsets, mode="mean", include_last_offset=True)
    return bags.numpy()


def _nearest(item: tuple[NDArray, NDArray], history: Ragged) -> NDArray[np.float32]:
    """Largest cosine of each row's item with an item of its history; NaN without either."""
    (table, item_at), (values, offsets) = item, history
    out = np.full(len(item_at), np.nan, np.float32)
    wanted = np.flatnonzero((item_at >= 0) & (np.diff(offsets) > 0))
    for at in np.array_split(wanted, len(wanted) // _CHUNK + 1):
        lengths = offsets[at + 1] - offsets[at]
        starts = np.cumsum(lengths) - lengths
        picked = values[np.arange(lengths.sum()) + np.repeat(offsets[at] - starts, lengths)]
        cosines = np.einsum("nd,nd->n", table[picked], table[np.repeat(item_at[at], lengths)])
        out[at] = np.maximum.reduceat(cosines, starts) if len(at) else 0
    return out
