"""Amazon Office Products 2016-2018 (Ni et al., EMNLP 2019), on the cut of MiniOneRec's validation and test files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.sections.domains import SPLITS
from ..errors import UserError
from ..storage.new_folder import new_folder
from .next_item_rows import unseen_note, write_ordered
from .source_files import INTEGER, TEXT, find_rows, read_source, write_table

HOME = "the Amazon Office Products interactions with their splits, titles and descriptions (interactions, items)"
FILES = {
    "interactions": {"user_id": TEXT, "item_id": INTEGER, "position": INTEGER, "split": TEXT},
    "items": {"item_id": INTEGER, "title": TEXT, "description": TEXT, "brand": TEXT},
}
NULLS = {"title", "description", "brand"}
LENGTH = 20  # past items of a row, the newest ones

# What a scraped description holds beside its sentences, and what to put in its place.
_SCRAPS = (
    (r"(?s)<!--.*?-->", " "),
    (r"(?s)<(style|script).*?</(style|script)>", " "),
    (r"<[^>]*>", " "),
    (r"&?amp;", "&"),
    (r"&quot;", '"'),
    (r"""^\s*\[['"]\s*|\s*['"]\]\s*$""", ""),
    (r"""['"], ['"]""", " "),
    (r"\s+", " "),
)


def import_amazon_office(src: Path, out: Path, seed: int = 2026, unseen_items: float = 0.0) -> Path:
    """Turn Amazon Office Products into one domain without labels: given what a user has bought, which item comes next?

    Splits: those of the source, by time over the whole log. Validation and test have a row per purchase with anything before
    it; training one row per user (users have few purchases there): all items before the last, which is the row's own.
    Descriptions are freed of mark-up. Some users buy an item again, and those rows stay: past items may come next.

    Args:
        src: folder with ``interactions.parquet`` and ``items.parquet``.
        out: folder to write; new or empty.
        seed: of the items held out; also the experiment's.
        unseen_items: share of the items that training and validation do not ask for, and pasts in training do not hold.

    Returns:
        The path of ``out/experiment.yaml``.

    Raises:
        UserError: a file or column is missing from ``src``, an interaction's item has no catalog row or its split is none, or
            ``out`` is not empty.
    """
    src, out = Path(src), Path(out)
    with new_folder(out, last="experiment.yaml") as folder:
        source = read_source(src, FILES, NULLS, HOME)
        events = source["interactions"].sort_by([("user_id", "ascending"), ("position", "ascending")])
        where = f"{src / 'interactions.parquet'}: column"
        find_rows(events["item_id"], source["items"]["item_id"], f"{where} 'item_id'", HOME)
        write_table(folder / "catalogs" / "items.parquet", _catalog(source["items"]))
        split = _splits(events["split"], f"{where} 'split'")
        write_ordered(folder, "office", events, split, LENGTH, unseen_items, seed)
        (folder / "experiment.yaml").write_text(
            _YAML.format(seed=seed, unseen=unseen_note(unseen_items), length=LENGTH), encoding="utf-8"
        )
    return out / "experiment.yaml"


def _splits(names: pa.ChunkedArray, where: str) -> np.ndarray:
    found = pc.index_in(names, value_set=pa.array(SPLITS, names.type))
    if found.null_count:
        other = names.filter(pc.is_null(found))[0].as_py()
        raise UserError(
            where, f"holds {other!r}", f"Give the complete files of {HOME}: a split is {', '.join(SPLITS)}."
        )
    return found.to_numpy().astype(np.int64)


def _catalog(items: pa.Table) -> pa.Table:
    texts = items["description"]
    for scrap, place in _SCRAPS:
        texts = pc.replace_substring_regex(texts, scrap, place)
    return items.set_column(items.column_names.index("description"), "description", pc.utf8_trim_whitespace(texts))


_YAML = """\
# Amazon Office Products: which item comes next? Written by `foundrank import amazon-office`.
# Splits by time over the whole log, as the source has them; training has one row per user.
{unseen}name: amazon_office
seed: {seed}

entities:
  user:
    id: user_id
    history: {{column: history, max_length: {length}}}   # what the user has bought before, oldest first
  item:
    id: item_id
    catalog: {{path: catalogs/items.parquet, key: item_id}}
    text: "{{title}}"

domains:
  office:
    kind: recommendation
    events:
      train: events/office/train/*.parquet
      validation: events/office/validation/*.parquet
      test: events/office/test/*.parquet

model:
  embedding_dim: 64
  width: 64
  gate: mean
  history: {{encoder: sasrec, layers: 2, heads: 2, dropout: 0.4}}
  next_item: {{loss: softmax, positions: all, label_smoothing: 0.1, repeat: true}}  # 3,459 items: all of them at every step

training: {{epochs: 12, batch_size: 128, sparse_learning_rate: 0.03, gradient_clip: 20, precision: auto}}
"""
