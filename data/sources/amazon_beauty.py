"""Amazon Beauty 5-core (McAuley et al., SIGIR 2015), in the order and with the item ids of S3-Rec (Zhou et al., CIKM 2020)."""

from pathlib import Path

import pyarrow as pa

from ..storage.new_folder import new_folder
from .next_item_rows import leave_one_out, unseen_note, write_ordered
from .source_files import INTEGER, TEXT, encode, find_rows, read_source, write_table

HOME = "the 5-core Amazon Beauty interactions of CIKM2020-S3Rec with titles (interactions, items)"
FILES = {
    "interactions": {"user_id": INTEGER, "item_id": INTEGER, "position": INTEGER},
    "items": {"item_id": INTEGER, "title": TEXT, "attribute_ids": pa.list_(INTEGER)},
}
NULLS = {"title"}
LENGTH = 50  # past items of a row, the newest ones


def import_amazon_beauty(src: Path, out: Path, seed: int = 2026, unseen_items: float = 0.0) -> Path:
    """Turn Amazon Beauty into one domain without labels: given what a user has reviewed, which item comes next?

    Splits, leave one out: the test is each user's last item, validation the one before. Training has one row per user: all
    items before those two, the last of them as the row's own; the few users with more than 51 have further rows, for those
    before. Items come in the source's order, no two of a user's at one time.

    Args:
        src: folder with ``interactions.parquet`` and ``items.parquet``.
        out: folder to write; new or empty.
        seed: of the items held out; also the experiment's.
        unseen_items: share of the items that training and validation do not ask for, and pasts in training do not hold.

    Returns:
        The path of ``out/experiment.yaml``.

    Raises:
        UserError: a file or column is missing from ``src``, an interaction's item has no catalog row, or ``out`` is not empty.
    """
    src, out = Path(src), Path(out)
    with new_folder(out, last="experiment.yaml") as folder:
        source = read_source(src, FILES, NULLS, HOME)
        events = source["interactions"].sort_by([("user_id", "ascending"), ("position", "ascending")])
        find_rows(
            events["item_id"], source["items"]["item_id"], f"{src / 'interactions.parquet'}: column 'item_id'", HOME
        )
        write_table(folder / "catalogs" / "items.parquet", source["items"])
        split = leave_one_out(encode(events["user_id"])[0])
        write_ordered(folder, "beauty", events, split, LENGTH, unseen_items, seed)
        (folder / "experiment.yaml").write_text(
            _YAML.format(seed=seed, unseen=unseen_note(unseen_items)), encoding="utf-8"
        )
    return out / "experiment.yaml"


_YAML = """\
# Amazon Beauty: which item comes next? Written by `foundrank import amazon-beauty`.
# Leave one out: each user's last item is the test, the one before validation; training has one row per user.
{unseen}name: amazon_beauty
seed: {seed}

entities:
  user:
    id: user_id
    history: {{column: history, max_length: 50}}   # what the user has reviewed before, oldest first
  item:
    id: item_id
    catalog: {{path: catalogs/items.parquet, key: item_id}}
    text: "{{title}}"

domains:
  beauty:
    kind: recommendation
    events:
      train: events/beauty/train/*.parquet
      validation: events/beauty/validation/*.parquet
      test: events/beauty/test/*.parquet

model:
  embedding_dim: 128
  width: 128
  gate: mean
  history: {{encoder: sasrec, layers: 2, heads: 2, dropout: 0.4}}
  next_item: {{loss: softmax, positions: all, label_smoothing: 0.1}}     # 12,101 items: all of them at every step

training: {{epochs: 12, batch_size: 256, sparse_learning_rate: 0.03, gradient_clip: 20, precision: auto}}
"""
