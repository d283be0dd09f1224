"""Predictions of a split as a Parquet file in the run's folder: a row per row of the events, in the order of their files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from ...data.errors import UserError
from ...data.events.event_files import EventFiles
from ...data.schema.layout import Layout
from ...data.storage.file_identity import identities, same_content
from ...data.storage.local_writes import replaced
from ...data.storage.mirror import fetch, publish
from ...data.storage.parquet_memory import READ_ERRORS
from ...model.tasks.group_metrics import apart
from ..exchange.exchange import pieces_on_main
from ..ranks.runtime import Runtime
from ..run.joined import joined
from ..run.run_documents import Predicted
from .prepare import EvaluationJob

FOLDER = "predictions"
_TOLD = b"foundrank.predictions"
_REMEDY = "Remove it, and run `foundrank evaluate RUN --predictions` again."
# In a row group, which rank 0 holds as columns and as pages: more would be beyond what other ranks need.
_OF_ROWS = 1 << 15
_FEW_VALUES = ["domain"]  # Parquet's dictionaries of other columns take memory and time, and make the file larger
_NEXT = ("rank", "popularity_rank", "percentile", "popularity_percentile", "chosen", "predicted")
_WRITTEN = {
    "domain",
    "user",
    "user_known",
    "list",
    "list_known",
    "counts",
    "labels",
    "mask",
    "scores",
    "weights",
    *_NEXT,
}


@dataclass(frozen=True)
class Predictions:
    """What a run says of a split.

    Attributes:
        told: what it was made from, as of `Predicted`.
        columns: as `predict` and `next_item_ranks` give them.
    """

    told: Mapping[str, Any]
    columns: Mapping[str, np.ndarray]


def predictions_file(run: Path, split: str) -> Path:
    """Where the predictions of a split are, or would be."""
    return run / FOLDER / f"{split}.parquet"


def told_of(job: EvaluationJob, checkpoint: str, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What predictions are made from: `Predicted`.

    Args:
        job: that makes them; of its run's experiment, catalogs and content stores, which rows are joined with.
        checkpoint: its `identity`.
        before: what was told before, to spare reading files that cannot have changed since.

    Raises:
        UserError: a catalog names no file, or a content store is missing or damaged.
    """
    noted = before or {}
    return {
        "split": job.split,
        "checkpoint": checkpoint,
        "files": _identities(job.files, noted.get("files", {})),
        "train": _identities(job.files_of_candidates, noted.get("train", {})),
        "protocol": job.protocol.told(job.experiment),
        "joined": joined(job.experiment, noted.get("joined") or ()),
    }


def _identities(files: Mapping[str, EventFiles], known: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {name: identities(events.files, known.get(name, ())) for name, events in files.items()}


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two are of the same checkpoint, split, files, protocol, catalogs and content stores; of none that does not say which."""
    catalogs, others = one.get("joined"), other.get("joined")
    # Earlier versions told under "among" what the rows of all domains together were ranked among.
    if catalogs is None or others is None or "among" in one or "among" in other:
        return False
    return (
        all(one[name] == other[name] for name in ("split", "checkpoint", "protocol"))
        and same_content(catalogs, others)
        and all(_same_files(one.get(of, {}), other.get(of, {})) for of in ("files", "train"))
    )


def _same_files(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(same_content(files, other[name]) for name, files in one.items())


def write_predictions(
    path: Path, columns: Mapping[str, np.ndarray], layout: Layout, told: Mapping[str, Any], runtime: Runtime
) -> None:
    """Writes the file on rank 0, whole or not at all, a row group after the other; the same whatever the ranks. A collective.

    ``columns`` are this rank's, as of `predict` and `next_item_ranks`, which every rank has.

    The file's columns: ``domain``; ``user`` and ``list``, keys made of the ids (uint64; null where the row has none); ``seen/ENTITY``, how often
    the id was seen in training (null: no id); for each task ``label/TASK`` (null: none), ``score/TASK`` (NaN: no number came out; null in a
    domain without the task), ``weight/TASK`` and ``expected/TASK`` where there are any; for the next item ``next/rank`` (0: first)
    and ``next/percentile``, both with ``popularity_`` before them too, ``next/chosen`` (whether it counts) and ``next/predicted`` (whether a number came out).
    """
    columns = {name: column for name, column in columns.items() if _is_written(name)}
    pieces = pieces_on_main(columns, np.bincount(columns["domain"], minlength=len(layout.domains)), runtime)
    if not runtime.is_main:
        for _ in pieces:
            pass
        return
    metadata = {_TOLD: json.dumps(told).encode()}
    empty = _table({name: column[:0] for name, column in columns.items()}, layout)
    schema = empty.schema.with_metadata(metadata)
    with (
        replaced(path) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd", use_dictionary=_FEW_VALUES) as writer,
    ):
        for table in _of_rows(_table(piece, layout) for piece in pieces):
            writer.write_table(table, row_group_size=_OF_ROWS)
    publish(path)


def _is_written(name: str) -> bool:
    return name in _WRITTEN or name.startswith("oracle/")


def _of_rows(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `_OF_ROWS`, of which the last has those that are left."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while (rows := sum(of.num_rows for of in held)) >= _OF_ROWS:
            together = pa.concat_tables(held)
            yield together.slice(0, _OF_ROWS).combine_chunks()
            held = [together.slice(_OF_ROWS)] if rows > _OF_ROWS else []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _table(columns: Mapping[str, np.ndarray], layout: Layout) -> pa.Table:
    out: dict[str, pa.Array] = {
        "domain": pa.DictionaryArray.from_arrays(
            pa.array(columns["domain"], pa.int32()), pa.array(layout.domains, pa.string())
        )
    }
    for name in ("user", "list"):
        if name in columns:
            out[name] = pa.array(columns[name], pa.uint64(), mask=~columns[f"{name}_known"])
    for position, entity in enumerate(layout.entities):
        seen = columns["counts"][:, position]
        out[f"seen/{entity}"] = pa.array(seen.astype(np.int64), mask=seen < 0)
    if "scores" in columns:
        # A domain's rows all have its tasks' scores; elsewhere they mean nothing.
        of_domain = np.array(layout.task_weights) > 0
        for t, task in enumerate(layout.tasks):
            lacks = ~of_domain[columns["domain"], t]
            out[f"label/{task}"] = pa.array(columns["labels"][:, t], mask=~columns["mask"][:, t])
            out[f"score/{task}"] = pa.array(columns["scores"][:, t], mask=lacks)
            if "weights" in columns:
                out[f"weight/{task}"] = pa.array(columns["weights"][:, t], mask=lacks)
            if f"oracle/{task}" in columns:
                expected = columns[f"oracle/{task}"]
                out[f"expected/{task}"] = pa.array(expected, mask=lacks | np.isnan(expected))
    for name in _NEXT:
        if name in columns:
            out[f"next/{name}"] = pa.array(columns[name])
    return pa.table(out)


def read_told(path: Path) -> dict[str, Any] | None:
    """What a file of predictions was made from; None where there is no file.

    Raises:
        UserError: it is damaged.
    """
    fetch(path.parent, lambda name: name == path.name)
    if not path.is_file():
        return None
    try:
        told = (pq.read_schema(path).metadata or {}).get(_TOLD, b"")
        Predicted.model_validate_json(told)
        return json.loads(told)
    except (*READ_ERRORS, ValidationError) as error:
        raise UserError(path, "does not hold predictions of foundrank, or is damaged", _REMEDY) from error


def read_predictions(path: Path, tasks: Sequence[str], domains: Sequence[str]) -> Predictions:
    """The predictions of a file; in ``columns`` a user is as of `group_metrics.apart`, and ``[N, T]`` are in the order of ``tasks``.

    Raises:
        UserError: it is damaged, or is not there.
    """
    told = read_told(path)
    if told is None:
        raise UserError(path, "is not there", _REMEDY)
    try:
        table = pq.read_table(path)
        columns = _columns(table, tasks, domains)
    except (*READ_ERRORS, KeyError, ValueError) as error:
        raise UserError(path, "does not hold predictions of foundrank, or is damaged", _REMEDY) from error
    return Predictions(told, columns)


def _columns(table: pa.Table, tasks: Sequence[str], domains: Sequence[str]) -> dict[str, np.ndarray]:
    names = table.column_names
    of_domain = np.array([domains.index(name) for name in table["domain"].combine_chunks().dictionary.to_pylist()])
    out = {"domain": of_domain[table["domain"].combine_chunks().indices.to_numpy()]}
    for name in ("user", "list"):
        if name in names:
            out[f"{name}_known"] = table[name].is_valid().to_numpy()
            out[name] = table[name].fill_null(0).to_numpy()
    out["user"] = apart(out["user"], out["user_known"])
    for name in names:
        if name.startswith("seen/"):
            out[name] = table[name].fill_null(-1).to_numpy()
        if name.startswith("next/"):
            out[name.removeprefix("next/")] = table[name].to_numpy()
    if tasks:
        out["mask"] = np.stack([table[f"label/{task}"].is_valid().to_numpy() for task in tasks], 1)
        for kind, where, empty in (("labels", "label", 0.0), ("scores", "score", np.nan), ("weights", "weight", 1.0)):
            if f"{where}/{tasks[0]}" in names:
                out[kind] = np.stack([table[f"{where}/{task}"].fill_null(empty).to_numpy() for task in tasks], 1)
    return out
