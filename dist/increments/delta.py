"""What has changed from one version of a run to the next, in a folder of its own: rows of tables, the dense part, and whose rows are whose.

``RUN/deltas/00007/`` has, last of all, ``COMMITTED`` with the checksums of its files; the statistics have their own. Rows are told apart by their bits, so that nothing in the
training has to note which it has changed.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save
from torch import Tensor

from ...data.counting.statistics import Statistics
from ...data.events.bad_rows import Skipped
from ...data.storage.local_writes import replace_file, sync
from ...data.storage.mirror import fetch, files_in, origin, publish_changed
from ...data.vocabulary.key_counts import Table
from ...data.vocabulary.row_counts import RowCounts
from ...data.vocabulary.vocabulary import HashedIds, Vocabulary
from ..ranks.runtime import Runtime
from ..run.checkpoint_reader import read_rows, read_tensors, saved_tensors
from ..run.kept_checkpoints import best, checksum, identity, published, remove_published, together
from ..run.run_documents import Committed, Digest
from ..run.run_folder import COMMITTED, DELTAS, write_json

DENSE, ROWS, IDS, STATISTICS = "dense.safetensors", "rows-{}.safetensors", "ids-{}.parquet", "statistics"
TABLES, OF_DENSE = "model.embeddings.embedding_bags.", "model.dense."
_BLOCK = 1 << 18  # rows that are compared at a time
_INTEGERS = {2: torch.int16, 4: torch.int32}


class DeltaCommitted(Committed):
    """``COMMITTED`` of a delta: with the `identity` of the checkpoints that it leads from and to."""

    before: Digest
    now: Digest


def delta_folder(run: Path, number: int) -> Path:
    """Where the delta of an increment is, or would be."""
    return run / DELTAS / f"{number:05d}"


def write_delta(before: tuple[Path, Statistics], now: tuple[Path, Statistics], folder: Path, runtime: Runtime) -> None:
    """Writes what has changed between two versions, each a run's folder and its statistics; whole or not at all. A collective."""
    temporary, (then, here) = folder.with_name(f".{folder.name}.tmp"), (best(run) for run, _ in (before, now))
    for one in (then, here):  # of which this machine may have a part
        fetch(one)

    def begin() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        remove_published(folder)

    def commit(sums: dict[str, str]) -> None:
        _write_dense(here, temporary / DENSE)
        _write_ids(before[1], now[1], temporary)
        for path in (path for path in temporary.rglob("*") if path.is_file()):
            sync(path)
        others = [path for path in temporary.iterdir() if path.is_file() and path.name not in sums]
        sums |= {path.name: checksum(path) for path in others}
        ends = {"before": identity([then]), "now": identity([here])}
        write_json(temporary / COMMITTED, ends | {"sha256": dict(sorted(sums.items()))})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        sync(folder.parent)
        publish_changed(folder, sorted(files_in(folder), key=lambda name: name == COMMITTED))

    runtime.on_main(begin)
    changed, mine = dict(_changed_rows(then, here, runtime)), temporary / ROWS.format(runtime.rank)
    if changed:
        replace_file(mine, save(changed))
    parts = runtime.gather(published([mine] if changed else [], folder))
    runtime.on_main(lambda: commit(together(parts)))
    if origin(folder) is not None:  # other machines have written into folders of their own
        shutil.rmtree(temporary, ignore_errors=True)


def _changed_rows(before: Path, now: Path, runtime: Runtime) -> Iterator[tuple[str, Tensor]]:
    """``TABLE/rows`` and ``TABLE/values`` of this rank's share of the tables, of the rows whose bits are others."""
    old, new = saved_tensors(before), saved_tensors(now)
    for name in (name for name in new if name.startswith(TABLES)):
        table = name.removeprefix(TABLES).removesuffix(".weight")
        rows, known = new[name].size[0], old[name].size[0] if name in old else 0
        found: list[Tensor] = []
        values: list[Tensor] = []
        for first in range(runtime.rank * _BLOCK, rows, runtime.world_size * _BLOCK):
            here = min(_BLOCK, rows - first)
            mine, both = read_rows(now, name, first, here), max(min(here, known - first), 0)
            differs = torch.ones(here, dtype=torch.bool)
            if both:
                theirs = read_rows(before, name, first, both)
                integer = _INTEGERS[mine.element_size()]
                differs[:both] = (mine[:both].view(integer) != theirs.view(integer)).any(1)
            found.append(differs.nonzero()[:, 0] + first)
            values.append(mine[differs])
        if sum(map(len, found)):
            yield f"{table}/rows", torch.cat(found)
            yield f"{table}/values", torch.cat(values)


def _write_dense(checkpoint: Path, path: Path) -> None:
    saved = saved_tensors(checkpoint)
    dense = {
        name: torch.empty(of.size, dtype=of.properties.dtype) for name, of in saved.items() if name.startswith(OF_DENSE)
    }
    read_tensors(checkpoint, dense, alone=True)
    replace_file(path, save({name.removeprefix(OF_DENSE): value.contiguous() for name, value in dense.items()}))


def _write_ids(before: Statistics, now: Statistics, folder: Path) -> None:
    """The statistics, with tables of ids as what has changed in them."""
    whole = dict(now.tables)
    for name, table in now.tables.items():
        if isinstance(table, Vocabulary | HashedIds):
            pq.write_table(_changed_ids(before.tables.get(name), table), folder / IDS.format(name), compression="zstd")
            del whole[name]
    rates = None if now.rates is None else replace(now.rates, so_far=None)  # nothing goes on from a delta
    replace(now, tables=whole, rates=rates, lists={}, skipped=Skipped()).save(folder / STATISTICS)


def _changed_ids(before: Table | None, now: Vocabulary | HashedIds) -> pa.Table:
    """Rows whose id or count is another, with both; ``rows`` in the metadata is how many the table has."""
    if isinstance(now, HashedIds):
        then = _counts(before, now.rows)
        changed = np.union1d(now.counts.at, then.at)
        changed = changed[now.counts[changed] != then[changed]]
        columns = {"row": changed.astype(np.int64), "count": now.counts[changed]}
    else:
        (keys, owned, counts), was = _by_row(now, now.rows), _by_row(before, now.rows)
        changed = np.flatnonzero((keys != was[0]) | (owned != was[1]) | (counts != was[2]))
        columns = {"row": changed, "key": keys[changed], "owned": owned[changed], "count": counts[changed]}
    return pa.table(columns).replace_schema_metadata({"rows": str(now.rows)})


def with_changes(table: Table | None, changes: pa.Table) -> Table:
    """A table of ids after what `write_delta` has written of it."""
    rows, at = int((changes.schema.metadata or {})[b"rows"]), changes["row"].to_numpy()
    if "key" not in changes.column_names:
        then = _counts(table, rows)
        every = np.union1d(then.at, at.astype(np.uint64))
        counts = then[every]
        counts[np.searchsorted(every, at.astype(np.uint64))] = changes["count"].to_numpy()
        return HashedIds(RowCounts(rows, every[counts > 0], counts[counts > 0]))
    arrays = _by_row(table, rows)
    for array, name in zip(arrays, ("key", "owned", "count"), strict=True):
        array[at] = changes[name].to_numpy()
    return Vocabulary.of_rows(*arrays)


def _counts(table: Table | None, rows: int) -> RowCounts:
    """Of hashed ids; of no table none."""
    nothing = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return table.counts if isinstance(table, HashedIds) else RowCounts(rows, *nothing)


def _by_row(table: Table | None, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[rows]`` each, of which a table has the first, and no table any: key, whether there is one, and count."""
    keys, owned, counts = np.zeros(rows, np.uint64), np.zeros(rows, bool), np.zeros(rows, np.int64)
    if isinstance(table, Vocabulary):
        of = table.keys
        at = table.lookup(of)
        keys[at], owned[at] = of, True
        counts[: table.rows] = table.counts
    return keys, owned, counts
