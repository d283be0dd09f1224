"""What is needed to take a version of a run that is in memory to a newer one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ...data.storage.mirror import fetch, fetch_again
from ..run.kept_checkpoints import checksum
from ..run.run_folder import COMMITTED, DELTAS, read_json
from .delta import DENSE, IDS, ROWS, STATISTICS, DeltaCommitted, delta_folder, with_changes
from .record import RECORD, read_record

_TABLES, _DENSE = "embeddings.embedding_bags.", "dense."


def deltas_between(run: Path, version: tuple[str, str], newer: tuple[str, str]) -> list[Path]:
    """The folders of the deltas that lead from a version of a run to a newer one, in order; none where they do not, or not all are there.

    Args:
        run: its folder, or a mirror of it, which then has these deltas.
        version: folder of one, as seen from there, and the identity of its checkpoint: a run may have been made anew in the same place.
        newer: likewise.
    """
    fetch(run, lambda name: name == RECORD or (name.startswith(f"{DELTAS}/") and name.endswith(f"/{COMMITTED}")))
    known, found = {of["run"]: of for of in read_record(run)}, list[Path]()
    place, checkpoint = newer
    while place != version[0]:
        folder = delta_folder(run, known[place]["increment"]) if place in known else None
        told = None if folder is None else read_json(folder / COMMITTED, DeltaCommitted)
        if folder is None or told is None or told["now"] != checkpoint:
            return []
        found.append(folder)
        place, checkpoint = known[place]["base"], told["before"]
    return _fetched(run, found[::-1]) if checkpoint == version[1] else []


def _fetched(run: Path, deltas: list[Path]) -> list[Path]:
    """The deltas, of a mirror with their files; none where one is gone meanwhile, with its version."""
    gone = [folder for folder in (run / DELTAS).glob("*") if not (folder / COMMITTED).is_file()]
    wanted = tuple(f"{DELTAS}/{folder.name}/" for folder in (*deltas, *gone))
    fetch(run, lambda name: name.startswith(wanted))
    return deltas if all((folder / COMMITTED).is_file() for folder in deltas) else []


def statistics_after(statistics: Statistics, deltas: Sequence[Path]) -> Statistics:
    """The statistics of the version that deltas lead to.

    Raises:
        UserError: a delta is damaged.
    """
    for folder in deltas:
        _check(folder)
        new, tables = Statistics.load(folder / STATISTICS), {}
        for path in sorted(folder.glob(IDS.format("*"))):
            name = path.stem.removeprefix("ids-")
            tables[name] = with_changes(statistics.tables.get(name), pq.read_table(path))
        statistics = replace(new, tables=new.tables | tables)
    return statistics


def take_weights(model: nn.Module, deltas: Sequence[Path]) -> None:
    """Gives a model with whole tables the weights of the version that deltas lead to, whose tables are as large."""
    state: dict[str, Any] = model.state_dict()
    of_rows = [load_file(path) for folder in deltas for path in sorted(folder.glob(ROWS.format("*")))]
    dense = load_file(deltas[-1] / DENSE) if deltas else {}
    with torch.no_grad():  # all is read: from here on nothing can fail half-way
        for changed in of_rows:
            for name in sorted({name.rpartition("/")[0] for name in changed}):
                for table in _whole(state[f"{_TABLES}{name}.weight"]):
                    rows, values = (changed[f"{name}/{part}"].to(table.device) for part in ("rows", "values"))
                    table[rows] = values
        for name, value in dense.items():
            state[f"{_DENSE}{name}"].copy_(value)
    model.load_state_dict(state)


def _whole(table: Any) -> list[Tensor]:
    """The memory of a table that is on this rank as a whole."""
    return [part.tensor for part in table.local_shards()] if hasattr(table, "local_shards") else [table]


def _check(folder: Path) -> None:
    sums = (read_json(folder / COMMITTED, DeltaCommitted) or {"sha256": {}})["sha256"]
    for name, wanted in sums.items():
        if not _is_whole(folder / name, wanted) and not (
            fetch_again(folder / name) and _is_whole(folder / name, wanted)
        ):
            what = "is damaged: it is missing, or not what was written"
            raise UserError(
                folder / name, what, "Remove the delta's folder: scorers then load the newest version whole."
            )


def _is_whole(path: Path, wanted: str) -> bool:
    return path.is_file() and checksum(path) == wanted
