"""The events and the experiment of a plain log that asks for the next item."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from ..sources.next_item_rows import draw_unseen, next_item_rows, repeats, unseen_note, write_next_item_rows
from .item_catalog import Catalog, write_catalog
from .plain_log import LEAVE_ONE_OUT, PlainLog

_EVERY_ITEM = 50_000  # items that a step can be against all of
_REPEATED = 0.05  # share of rows whose item the user had before, from which on past items may come next


class Imported(NamedTuple):
    """The experiment's file, and what to tell of the log."""

    path: Path
    told: tuple[str, ...]


def write_next_item(
    folder: Path,
    log: PlainLog,
    split: str,
    name: str,
    seed: int,
    length: int,
    unseen_items: float,
    catalog: Catalog | None,
) -> tuple[str, ...]:
    """Writes events, catalog and experiment; what to tell of them.

    Args:
        folder: to write into.
        log: the events.
        split: how they are split.
        name: of the experiment and its domain.
        seed: of the items held out, and the experiment's.
        length: of a past.
        unseen_items: share of the items held out of training.
        catalog: of the items.

    Raises:
        UserError: a split has no row, or the catalog does not fit.
    """
    parts = log.split(split)
    rows = next_item_rows(log.steps, parts, draw_unseen(log.steps.item, parts, unseen_items, seed), length)
    count = write_next_item_rows(folder, name, rows, log.columns, log.item)
    again, items = repeats(log.steps, rows), pc.count_distinct(log.columns[log.item]).as_py()
    described = item_lines(folder, log, catalog)
    loss = "loss: softmax, positions: all, label_smoothing: 0.1" if items <= _EVERY_ITEM else "positions: all"
    text = _YAML.format(
        command="sequences" if log.time is None else "interactions",
        name=name,
        seed=seed,
        split=HOW[split],
        unseen=unseen_note(unseen_items),
        user=quoted(log.user),
        item=described,
        length=length,
        loss=loss + (", repeat: true" if again >= _REPEATED else ""),
        items=f"{items:,} items",
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    written = ", ".join(f"{split} {number:,}" for split, number in count.items())
    return (*log.told, f"{items:,} items; rows: {written}; {again:.1%} of validation asks for a past item again")


def item_lines(folder: Path, log: PlainLog, catalog: Catalog | None) -> str:
    """What the experiment says of items; writes their catalog."""
    if catalog is None:
        return f"    id: {quoted(log.item)}\n"
    text = write_catalog(folder, catalog, log.item, log.columns[log.item])
    lines = f"    id: {quoted(log.item)}\n    catalog: {{path: catalogs/items.parquet, key: {quoted(log.item)}}}\n"
    return lines + (f"    text: {json.dumps(text)}\n" if text else "")


def quoted(name: str) -> str:
    """A column's name as YAML has it."""
    return (
        name
        if re.fullmatch(r"[A-Za-z]\w*_\w*|(user|item|time|timestamp|label|rating|liked)", name)
        else json.dumps(name)
    )


HOW = {
    LEAVE_ONE_OUT: "leave one out: each user's last item is the test, the one before validation",
    "temporal": "by time over the whole log: the first 80 % train, the next 10 % validation, the last 10 % test",
}

_YAML = """\
# Which item comes next? Written by `foundrank import {command}`.
# Split, {split}.
# A row's history holds what the user had strictly before; training has one row per user, longer users have more.
{unseen}name: {name}
seed: {seed}

entities:
  user:
    id: {user}
    history: {{column: history, max_length: {length}}}   # oldest first
  item:
{item}
events: events/{{domain}}/{{split}}/*.parquet

domains:
  {name}:
    kind: recommendation

model:
  embedding_dim: 128
  width: 128
  gate: mean
  history: {{encoder: sasrec, layers: 2, heads: 2, dropout: 0.4}}
  next_item: {{{loss}}}   # {items}

training: {{epochs: 12, batch_size: 256, sparse_learning_rate: 0.03, gradient_clip: 20, precision: auto}}
"""
