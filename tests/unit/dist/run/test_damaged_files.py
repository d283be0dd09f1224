"""Any file of a run or a text store may be damaged in any way: it is told in one line, or nothing changes."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.distributed.checkpoint import state_dict_saver

from foundrank.data.contents.content_store import open_store
from foundrank.data.contents.store_writer import held_shards
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.dist.report.report import write_report
from foundrank.dist.run.checkpoint_reader import read_plain, read_tensors, saved_tensors
from foundrank.dist.run.kept_checkpoints import best, checksum
from foundrank.dist.run.new_run import create_run
from foundrank.dist.run.run_documents import Committed, Events, State
from foundrank.dist.run.run_folder import open_run, read_json, write_json
from tests.content_store import write_store

from ....tiny_world import random_events, train_files, write_world

DRAWS = 80
REPORTED = ("evaluation.json", "validation.json", "run.json", "metrics.jsonl")
TENSORS = {"model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and a text store, as jobs leave them."""
    folder = tmp_path_factory.mktemp("whole")
    experiment = write_world(folder / "world", random_events(0, {"find": 40, "home": 40, "new": 40}))
    files = train_files(experiment)
    run = folder / "run"
    create_run(run, experiment, count(experiment, files), files)
    step = run / "checkpoints" / "step_00000003"
    state_dict_saver.save(TENSORS, checkpoint_id=step, no_dist=True)
    torch.save({"moments": torch.ones(3)}, step / "dense_optimizer.pt")
    write_json(step / "state.json", {"step": 3, "position": {"epoch": 1, "taken": [[2, 3]]}, "validation": 0.75})
    write_json(step / "COMMITTED", {"sha256": {path.name: checksum(path) for path in step.iterdir()}})
    write_json(run / "best.json", {"step": 3, "validation": 0.75})
    numbers = dict.fromkeys(
        ("auc", "gauc", "logloss", "ne", "calibration", "ndcg@10", "oracle_auc", "popularity_auc"), 0.5
    )
    row = {"domain": "d", "task": "t", "slice": "all", "rows": 9, "positives": 3, **numbers}
    write_json(run / "evaluation.json", {"split": "test", "rows": [row], "gates": {"d": {"item": {"id": 1.0}}}})
    write_json(run / "validation.json", {"rows": [{"step": 3, "epoch": 1, **row}]})
    line = {"step": 1, "epoch": 0, "rows": 9, "loss": 0.7, "losses": {"d/t": 0.7}, "samples_per_s": 9.0, "lr": 0.1}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line | {"step": at}) + "\n" for at in (1, 2, 3)))
    vectors = np.arange(12.0).reshape(4, 3)
    write_store(folder / "store", pa.array(["a", "b", "c"]), np.array([0, 3, 1]), vectors, {"asked": {}})
    return folder


def read_run(folder: Path) -> Any:
    """All that commands read of a run and of a store, where it must be what was written."""
    run = folder / "run"
    _, statistics = open_run(run)
    step = best(run)
    for name, wanted in read_json(step / "COMMITTED", Committed)["sha256"].items():
        if not (step / name).is_file() or checksum(step / name) != wanted:
            raise UserError(step / name, "is damaged", "Restore it.")
    read = {"model": {name: torch.zeros_like(value) for name, value in TENSORS["model"].items()}}
    saved_tensors(step)
    read_tensors(step, read)
    read_plain(step / "dense_optimizer.pt")
    state = read_json(step / "state.json", State)
    read_json(run / "events.json", Events)
    tables = {
        name: (table.rows, table.counts[np.arange(table.rows)].tolist()) for name, table in statistics.tables.items()
    }
    store = open_store(folder / "store")
    held_shards(folder / "store")
    at = store.vectors[torch.from_numpy(store.row_of_key.astype(np.int64))]
    assert at.shape == (3, 3)
    values = [value.tolist() for value in read["model"].values()]
    return tables, statistics.dense, statistics.labels, statistics.rows, values, state, store.keys.to_pylist()


def report(folder: Path) -> None:
    write_report(folder / "run")


def places(value: Any) -> Iterator[Callable[[Any], None]]:
    """Each place of a JSON value: what puts something else there."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield lambda new, key=key: value.__setitem__(key, new)
        yield from places(value[key])


def damaged(content: bytes, is_json: bool, draw: random.Random) -> bytes | None:
    """A file as something may have left it; None: it is gone."""
    kind = draw.choice(["bit", "cut", "empty", "other", "gone", *(["value"] * 4 if is_json else [])])
    if kind == "bit" and content:
        at = draw.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
    if kind == "value":
        value = json.loads(content)
        draw.choice(list(places(value)))(draw.choice([None, [], {}, -1, "x", 1.5, True, 10**30, "../../x", [None]]))
        return json.dumps(value).encode()
    return {"gone": None, "cut": content[: draw.randrange(len(content) + 1)], "other": b"\xff\xfe\x00" * 5}.get(
        kind, b""
    )


def test_what_is_damaged_is_told(whole: Path, tmp_path: Path):
    draw, wanted, told = random.Random(2026), read_run(whole), 0
    files = sorted(path for path in whole.glob("*/**/*") if path.is_file() and "world" not in path.parts)
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    report(folder)
    for number in range(DRAWS):
        path = draw.choice(files)
        copy = folder / path.relative_to(whole)
        content = path.read_bytes()
        new = damaged(content, path.suffix == ".json" or path.name == "COMMITTED", draw)
        copy.unlink() if new is None else copy.write_bytes(new)
        described = f"draw {number}: {path.relative_to(whole)} is now {new!r:.300}"
        for read in (read_run, report) if number % 20 == 0 or path.parent.name == "run" else (read_run,):
            try:
                found, error = read(folder), None
            except UserError as mistake:
                found, error = None, mistake
            except Exception as fault:
                raise AssertionError(described) from fault
            if error is not None:
                told += 1
                assert "\n" not in str(error), described
                assert error.remedy, described
            # What nobody checks at once: a report's numbers, vectors, and what an experiment says.
            elif read is read_run and path.suffix not in (".f16", ".b16", ".yaml"):
                assert found == wanted, described
        copy.write_bytes(content)
    assert told > DRAWS / 2
