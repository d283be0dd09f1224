"""The embed job on a catalogue, with a small encoder: killed, and gone on with on other ranks."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.tiny_encoder import write_bert

from .commands import COMMAND, ENVIRONMENT, foundrank

TEXTS = 9_000
WORDS = [f"word{n}" for n in range(200)]
KILLS = int(os.environ.get("FOUNDRANK_KILLS", "1"))  # of one rank and of two; `make chaos` does ten of each


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an experiment whose catalog has 9,000 texts, with an encoder."""
    folder = tmp_path_factory.mktemp("shop")
    write_bert(folder / "bert", WORDS, hidden=64)
    draw = random.Random(0)
    titles = [" ".join(draw.choices(WORDS, k=draw.randint(2, 25))) + f" word{n % 200}" for n in range(TEXTS)]
    pq.write_table(pa.table({"id": np.arange(TEXTS), "title": titles}), folder / "items.parquet", row_group_size=1000)
    raw = {
        "name": "shop",
        "entities": {
            "user": {"id": "user"},
            "item": {"id": "item", "catalog": {"path": str(folder / "items.parquet"), "key": "id"}, "text": "{title}"},
        },
        "domains": {
            "home": {
                "kind": "recommendation",
                "events": {"train": "events.parquet"},
                "tasks": {"click": {"label": "click"}},
            }
        },
        "text": {"encoder": str(folder / "bert"), "batch_tokens": 512},
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw))
    return folder


def embed(shop: Path, store: Path, *options: object) -> str:
    """Runs the command; what it said on standard error."""
    return foundrank("embed", shop, "--set", f"text.store={store}", *options).stderr


@pytest.fixture(scope="module")
def undisturbed(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store that one rank wrote in one go."""
    store = tmp_path_factory.mktemp("undisturbed")
    said = embed(shop, store)
    assert f"{TEXTS:,} distinct texts of {TEXTS:,} rows" in said
    return content(store)


def content(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def kill_after(seconds: float, shop: Path, store: Path, ranks: int) -> None:
    """Starts the job, waits until it is at work and then some, and kills every process of it at once."""
    command = [*COMMAND, "embed", str(shop), "--set", f"text.store={store}", "-p", str(ranks)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (store / "item").exists() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(seconds)
    family = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    for one in family:
        one.send_signal(signal.SIGSTOP)  # so that none sees another die
    for one in family:
        one.kill()
    process.kill()
    process.wait()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("trial", range(KILLS))
def test_killed_at_any_moment_and_resumed_on_other_ranks_the_bytes_are_the_same(
    shop, undisturbed, tmp_path, ranks, trial
):
    draw = random.Random(100 * ranks + trial)
    kill_after(draw.uniform(0, 4), shop, tmp_path, ranks)
    notes = list(tmp_path.glob("item/work/shard-*.json"))
    embed(shop, tmp_path, "-p", 3 - ranks)
    assert content(tmp_path) == undisturbed, f"{len(notes)} shards were done"
