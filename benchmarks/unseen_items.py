"""A copy of a sequence data set in which training never sees some of the items."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARE = 0.1
_SEED = 2026


def without_items(data: Path, out: Path, share: float = SHARE) -> Path:
    """Copies an experiment's folder whose training rows have a ``history`` and an ``item_id``, and takes items out of these.

    A row whose own item is taken out gets the newest item that stays; one left without any past is dropped. Validation, test
    and catalog stay as they are: a history there may hold items that training has not seen.

    Args:
        data: folder with ``experiment.yaml``, one domain and text vectors.
        out: folder to write.
        share: of the items of training that is taken out, drawn at random.

    Returns:
        ``out``.
    """
    unfinished = out.with_name(out.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(data, unfinished)
    for path in unfinished.glob("events/*/train/*.parquet"):
        events = pq.read_table(path)
        whole = [
            [*past, own] for past, own in zip(events["history"].to_pylist(), events["item_id"].to_pylist(), strict=True)
        ]
        items = np.unique(np.concatenate(whole))
        gone = set(np.random.default_rng(_SEED).choice(items, round(share * len(items)), replace=False).tolist())
        left = [[item for item in row if item not in gone] for row in whole]
        kept = np.flatnonzero([len(row) > 1 for row in left])
        events = events.take(pa.array(kept))
        for name, values in (
            ("history", [left[row][:-1] for row in kept]),
            ("item_id", [left[row][-1] for row in kept]),
        ):
            at = events.column_names.index(name)
            events = events.set_column(at, name, pa.array(values, events.schema.field(name).type))
        pq.write_table(events, path)
    unfinished.rename(out)
    return out
