"""The commands that are disturbed, and what must hold in the end: each a function that counts the faults it made."""

import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..jobs.commands import foundrank, settings
from ..tiny_encoder import write_bert
from .faults import DISK_FAULTS, FAULTS, KILL_ALL, Broken, Command, Disk, flip_a_byte, inject, run, shift_clock

DAMAGE, CLOCK = "a byte changed", "other clocks"
ROWS, TEXTS = 20_000, 9_000
_WORDS = [f"word{n}" for n in range(200)]
_TRAINING = settings(
    "training.checkpoint_every=3", "training.epochs=1", "training.keep_checkpoints=3", "training.batch_size=256"
)


_FEED = settings(
    *("training.checkpoint_every=3", "training.epochs=1", "training.batch_size=64", "text.vectors=none"),
    *(f"entities.{name}.encoding=managed" for name in ("user", "item")),
    *("entities.item.rows=60", "entities.item.expire_after=2", "entities.user.rows=400"),
)


class Bench:
    """A small world, and what undisturbed commands made of it, to compare with; made when it is asked for."""

    def __init__(self, folder: Path):
        """Simulates and embeds."""
        self.folder, self.world, self.shop = folder, folder / "world", folder / "shop"
        self.log = folder / "log"
        foundrank("simulate", self.world, "--rows", ROWS)
        foundrank("embed", self.world)
        _write_input(self.world, folder / "input")
        _write_shop(self.shop)
        foundrank("simulate", folder / "feed", "--days", 10, "--rows", 10_000)
        self._making = threading.Lock()

    def undisturbed_run(self, ranks: int) -> Path:
        """The run folder of a training on so many ranks."""
        return self._made(f"run{ranks}", lambda out: self.train(out, ranks))

    def undisturbed_scores(self) -> Path:
        """The folder of the scores of the run on two ranks."""
        self.undisturbed_run(2)
        return self._made("scores", lambda out: self.score(out, 2))

    def undisturbed_store(self) -> Path:
        """The folder of the text store."""
        return self._made("store", lambda out: self.embed(out, 1))

    def undisturbed_update(self, ranks: int) -> Path:
        """The folder of a run after its days, all learned on so many ranks."""
        base = self.feed_run()

        def update(out: Path) -> Command:
            shutil.copytree(base, out)
            return self.update(out, ranks)

        return self._made(f"updated{ranks}", update)

    def feed_run(self) -> Path:
        """The folder of a run that is to be updated."""
        feed = self.folder / "feed"
        arguments = ["train", str(feed), *_FEED, "-p", "1", "--run-dir"]
        return self._made("feed_run", lambda out: Command([*arguments, str(out)], lambda: True, 0))

    def _made(self, name: str, command: Callable[[Path], Command]) -> Path:
        with self._making:
            if not (out := self.folder / name).exists():
                run(command(out), self.log)
        return out

    def train(self, out: Path, ranks: int) -> Command:
        """A training of some sixty steps with a checkpoint every third."""
        arguments = ["train", str(self.world), "--run-dir", str(out), *_TRAINING, "-p", str(ranks)]
        before = (out / "metrics.jsonl").stat().st_mtime_ns if (out / "metrics.jsonl").exists() else 0
        return Command(
            arguments,
            lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_mtime_ns > before,
            seconds=5,
        )

    def update(self, out: Path, ranks: int) -> Command:
        """Three days, of which those that are new are learned."""
        events = str(self.folder / "feed" / "events" / "feed" / "day=2026-01-0[6-8]" / "*.parquet")
        begun = len(list(out.glob("increments/*/experiment.yaml")))
        arguments = ["update", str(out), "--events", events, "-p", str(ranks), "--keep", "9"]
        return Command(arguments, lambda: len(list(out.glob("increments/*/experiment.yaml"))) > begun, seconds=8)

    def embed(self, out: Path, ranks: int) -> Command:
        """Text vectors of 9,000 texts."""
        arguments = ["embed", str(self.shop), "--set", f"text.store={out}", "-p", str(ranks)]
        return Command(arguments, lambda: (out / "item").exists(), seconds=4)

    def score(self, out: Path, ranks: int) -> Command:
        """Scores of many small row groups."""
        arguments = ["score", str(self.folder / "run2"), str(self.folder / "input"), str(out), "-p", str(ranks)]
        parts = len(list(out.glob("part-*.parquet")))
        return Command(arguments, lambda: len(list(out.glob("part-*.parquet"))) > parts, seconds=2)


def _faults(disk: Disk | None) -> tuple[str, ...]:
    return FAULTS if disk is None else FAULTS + DISK_FAULTS


def _change_clocks(folder: Path, draw: random.Random, done: Counter[str]) -> None:
    """Once in four times."""
    if draw.random() < 0.25 and folder.exists():
        shift_clock(folder, draw)
        done[CLOCK] += 1


def disturb_train(bench: Bench, work: Path, draw: random.Random, strikes: int, disk: Disk | None) -> Counter[str]:
    """Faults during a training, on 1 or 2 ranks all along or changing; a checkpoint may be damaged as well."""
    changing, ranks = draw.random() < 0.4, draw.choice((1, 2))
    done: Counter[str] = Counter()
    out, log = work / "run", work.with_suffix(".log")
    for _ in range(strikes):
        fault = draw.choice((*_faults(disk), DAMAGE))
        _change_clocks(out, draw, done)
        inject(bench.train(out, ranks), KILL_ALL if fault == DAMAGE else fault, draw, log, disk)
        newest = sorted(out.glob("checkpoints/step_*/COMMITTED"))
        if fault == DAMAGE and len(newest) > 1:  # with one alone there is nothing to go back to
            flip_a_byte(draw.choice([path for path in newest[-1].parent.iterdir() if path.stat().st_size]), draw)
            done[fault] += 1
        done[f"{KILL_ALL if fault == DAMAGE else fault}, {ranks} rank{'s' * (ranks > 1)}"] += 1
        ranks = draw.choice((1, 2)) if changing else ranks
    run(bench.train(out, ranks), log)
    _check_training(bench, out, None if changing else ranks)
    return done


def _check_training(bench: Bench, out: Path, ranks: int | None) -> None:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    if [line["step"] for line in lines] != list(range(1, len(lines) + 1)):
        raise Broken(f"steps {[line['step'] for line in lines]}")
    rows, wanted = sum(line["rows"] for line in lines), json.loads((out / "run.json").read_text())["rows"]
    if rows != wanted:
        raise Broken(f"{rows} rows were read, of {wanted}")
    left = [path.name for path in out.rglob("*") if ".tmp" in path.name]
    if left:
        raise Broken(f"left behind: {left}")
    if ranks is not None and _weights(out) != _weights(bench.undisturbed_run(ranks)):
        raise Broken(f"other weights than those of an undisturbed training on {ranks} ranks")


def _weights(run_folder: Path) -> dict[str, str]:
    """The checksums of the last checkpoint's tensors and optimizer states."""
    newest = max(run_folder.glob("checkpoints/step_*/COMMITTED"))
    sums = json.loads(newest.read_text())["sha256"]
    return {name: of for name, of in sums.items() if name not in ("state.json", ".metadata")}


def disturb_update(bench: Bench, work: Path, draw: random.Random, strikes: int, disk: Disk | None) -> Counter[str]:
    """Faults while days are learned, on 1 or 2 ranks all along or changing; each day must have been learned once."""
    changing, ranks = draw.random() < 0.4, draw.choice((1, 2))
    done: Counter[str] = Counter()
    out, log = work / "run", work.with_suffix(".log")
    shutil.copytree(bench.feed_run(), out)
    for _ in range(strikes):
        fault = draw.choice(_faults(disk))
        _change_clocks(out, draw, done)
        inject(bench.update(out, ranks), fault, draw, log, disk)
        done[f"{fault}, {ranks} rank{'s' * (ranks > 1)}"] += 1
        ranks = draw.choice((1, 2)) if changing else ranks
    run(bench.update(out, ranks), log)
    wanted = bench.undisturbed_update(ranks)
    given, others = (_learned(folder) for folder in (out, wanted))
    if [line["digest"] for line in given] != [line["digest"] for line in others]:
        raise Broken(f"days {[line['events'] for line in given]}, not {[line['events'] for line in others]}")
    if left := [path.name for path in out.rglob("*") if ".tmp" in path.name]:
        raise Broken(f"left behind: {left}")
    for mine, other in zip(given, others, strict=True):
        for folder in (out / mine["run"], out / "deltas" / f"{mine['increment']:05d}"):
            if not any(folder.rglob("COMMITTED")):
                raise Broken(f"{folder} is not whole")
        if not changing and _weights(out / mine["run"]) != _weights(wanted / other["run"]):
            raise Broken(f"other weights after {mine['run']} than those of an undisturbed update on {ranks} ranks")
    return done


def _learned(run_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder / "increments.jsonl").read_text().splitlines()]


def disturb_embed(bench: Bench, work: Path, draw: random.Random, strikes: int, disk: Disk | None) -> Counter[str]:
    """Faults while texts are embedded, on ranks that change; the store must have the same bytes."""
    done: Counter[str] = Counter()
    for _ in range(strikes):
        fault, ranks = draw.choice(_faults(disk)), draw.choice((1, 2))
        _change_clocks(work / "store", draw, done)
        inject(bench.embed(work / "store", ranks), fault, draw, work.with_suffix(".log"), disk)
        done[f"{fault}, {ranks} rank{'s' * (ranks > 1)}"] += 1
    run(bench.embed(work / "store", draw.choice((1, 2))), work.with_suffix(".log"))
    if _bytes(work / "store") != _bytes(bench.undisturbed_store()):
        raise Broken("the store is not the one an undisturbed job writes")
    return done


def disturb_score(bench: Bench, work: Path, draw: random.Random, strikes: int, disk: Disk | None) -> Counter[str]:
    """Faults while rows are scored, on ranks that change; finished parts stay, and in the end all rows are there once."""
    done: Counter[str] = Counter()
    out, undisturbed = work / "scores", bench.undisturbed_scores()
    for _ in range(strikes):
        fault, ranks = draw.choice(_faults(disk)), draw.choice((1, 2))
        _change_clocks(out, draw, done)
        before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
        inject(bench.score(out, ranks), fault, draw, work.with_suffix(".log"), disk)
        done[f"{fault}, {ranks} rank{'s' * (ranks > 1)}"] += 1
        again = [name for name, when in before.items() if (out / name).stat().st_mtime_ns != when]
        if again:
            raise Broken(f"finished parts were made again: {again}")
    run(bench.score(out, draw.choice((1, 2))), work.with_suffix(".log"))
    given, wanted = pq.read_table(out), pq.read_table(undisturbed)
    names = [sorted(path.name for path in folder.iterdir()) for folder in (out, undisturbed)]
    if names[0] != names[1]:
        raise Broken(f"files {names[0]}, not {names[1]}")
    for column in wanted.column_names:
        same = given[column].equals(wanted[column])
        if column.startswith("score_"):
            pair = [table[column].to_numpy() for table in (given, wanted)]
            same = np.allclose(*pair, rtol=0, atol=1e-6, equal_nan=True)
        if not same:
            raise Broken(f"column {column} is not that of an undisturbed job")
    return done


JOBS = {"train": disturb_train, "update": disturb_update, "embed": disturb_embed, "score": disturb_score}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write_input(world: Path, folder: Path) -> None:
    domain = "shop_feed"
    table = pq.read_table(world / "events" / domain / "test")
    table = pa.concat_tables([table] * 20).append_column("domain", pa.array([domain] * (20 * len(table))))
    folder.mkdir()
    for number in range(3):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=len(table) // 20)


def _write_shop(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    write_bert(folder / "bert", _WORDS, hidden=64)
    draw = random.Random(0)
    titles = [" ".join(draw.choices(_WORDS, k=draw.randint(2, 25))) + f" word{n % 200}" for n in range(TEXTS)]
    pq.write_table(pa.table({"id": np.arange(TEXTS), "title": titles}), folder / "items.parquet", row_group_size=1000)
    item = {"id": "item", "catalog": {"path": "items.parquet", "key": "id"}, "text": "{title}"}
    raw = {
        "name": "shop",
        "entities": {"user": {"id": "user"}, "item": item},
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
