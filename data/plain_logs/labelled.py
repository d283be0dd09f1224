"""The events and the experiment of a plain log with labels: a model that ranks."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.sections.domains import SPLITS
from ..errors import UserError
from ..sources.histories_and_negatives import earlier, slices
from ..sources.next_item_rows import TEST, TRAIN, draw_unseen, unseen_note
from ..sources.source_files import write_events
from .item_catalog import Catalog
from .next_item import HOW, item_lines, quoted
from .plain_log import PlainLog

NAME = "interactions"


def write_labelled(
    folder: Path,
    log: PlainLog,
    label: str,
    split: str,
    seed: int,
    length: int,
    unseen_items: float,
    catalog: Catalog | None,
) -> tuple[str, ...]:
    """Writes events, catalog and experiment; what to tell of them.

    Every row is an example. Its history holds what its user liked strictly before; that of a training row no unseen item.

    Args:
        folder: to write into.
        log: the events; ``label`` is a column of 0, 1 or null.
        label: its name.
        split: how they are split.
        seed: of the items held out, and the experiment's.
        length: of a history.
        unseen_items: share of the items held out of training.
        catalog: of the items.

    Raises:
        UserError: a split has not both labels, or the catalog does not fit.
    """
    steps, parts = log.steps, log.split(split)
    unseen = draw_unseen(steps.item, parts, unseen_items, seed)[steps.item]
    labels = log.columns[label]
    liked = pc.fill_null(pc.equal(labels, 1), False).to_numpy(zero_copy_only=False)
    count = {}
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero((parts == number) & ((number == TEST) | ~unseen))
        if pc.count_distinct(labels.take(pa.array(rows))).as_py() < 2:
            raise UserError(
                f"the {name} split", f"has not both labels in '{label}'", "Give more events, or another label or split."
            )
        known = np.flatnonzero(liked & ~unseen) if number == TRAIN else np.flatnonzero(liked)
        order, begin, end = earlier(steps.user[known], steps.moment[known], steps.user[rows], steps.moment[rows])
        past = slices(log.columns[log.item].take(pa.array(known[order])), np.maximum(begin, end - length), end)
        table = pa.table(
            {name: values.take(pa.array(rows)) for name, values in log.columns.items()} | {"history": past}
        )
        write_events(folder, NAME, name, table)
        count[name] = len(rows)
    text = _YAML.format(
        task=label if re.fullmatch(r"[a-z][a-z0-9_]*", label) else "liked",
        label=quoted(label),
        seed=seed,
        split=HOW[split],
        unseen=unseen_note(unseen_items),
        user=quoted(log.user),
        item=item_lines(folder, log, catalog),
        time=quoted(log.time or ""),
        length=length,
    )
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    written = ", ".join(f"{split} {number:,}" for split, number in count.items())
    return (*log.told, f"rows: {written}; {liked.mean():.1%} of all have {label} = 1")


_YAML = """\
# Who likes what? Written by `foundrank import interactions`.
# Split, {split}.
{unseen}name: interactions
seed: {seed}

entities:
  user:
    id: {user}
    history: {{column: history, max_length: {length}}}   # liked by the user strictly before, oldest first
  item:
{item}
events: events/{{domain}}/{{split}}/*.parquet

domains:
  interactions:
    kind: recommendation
    time: {time}
    tasks:
      {task}: {{label: {label}}}
    list_column: {user}         # NDCG@10: how well a user's own items of a split are ordered
"""
