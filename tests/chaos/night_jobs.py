"""A small platform with a job a night: its data, its commands, and what is done to them."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..warm_commands import start_warm
from .faults import HANGS, Broken

_USERS, _ITEMS, _TRAINED = 40, 30, 3000
_WORKS = 0.6  # seconds within which a job that is struck is at work


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and all it said."""

    arguments: tuple[str, ...]
    status: int | None
    said: str


class Platform:
    """Events to train on, days to score, runs, and the pointer to the current one, all below a folder."""

    def __init__(self, folder: Path):
        """Writes the events that models are trained on, and their experiment."""
        self.folder = folder
        events = _rows(range(10**6, 10**6 + _TRAINED))
        chance = 1 / (1 + np.exp(-2 * np.cos(events["item"].to_numpy() * 2.3)))
        clicked = (np.random.default_rng(0).random(_TRAINED) < chance).astype(np.int8)
        events = events.append_column("clicked", pa.array(clicked))
        for split, start, stop in (("train", 0, 2400), ("validation", 2400, 2700), ("test", 2700, _TRAINED)):
            pq.write_table(events.slice(start, stop - start), self._made("events") / f"{split}.parquet")
        small = {
            "width": 16,
            "embedding_dim": 8,
            "expert_widths": [16],
            "tower_widths": [8],
            "domain_width": 16,
            "experts": 2,
        }
        domain = {
            "kind": "recommendation", "tasks": {"click": {"label": "clicked"}},
            "features": {"price": {"kind": "dense"}},
            "events": {split: f"events/{split}.parquet" for split in ("train", "validation", "test")},
        }  # fmt: skip
        experiment = {
            "name": "nights", "entities": {"user": {"id": "user"}, "item": {"id": "item"}}, "domains": {"home": domain},
            "model": small, "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01},
        }  # fmt: skip
        (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))

    def write(self, day: str, name: str, rows: Iterable[int], other_schema: bool = False) -> None:
        """A file of a day's rows, whole at once; of another schema where ``price`` is text."""
        table = _rows(rows)
        if other_schema:
            at = table.column_names.index("price")
            table = table.set_column(at, "price", pa.array([f"{value} EUR" for value in table["price"].to_pylist()]))
        path = self._made(f"in/day={day}") / f"{name}.parquet"
        beside = path.with_name(f".{path.name}.new")
        pq.write_table(table, beside, row_group_size=20)
        beside.replace(path)

    def tear(self, day: str, name: str) -> None:
        """Cuts a day's file short."""
        path = self.folder / f"in/day={day}/{name}.parquet"
        os.truncate(path, path.stat().st_size // 2)

    def train(self, run: str, good: bool) -> None:
        """Trains a model; one that has learnt nothing if it shall not be good."""
        options = [] if good else ["--set", "training.learning_rate=0.0000001", "--set", "training.max_steps=1"]
        seed = ["--set", f"seed={run.removeprefix('run')}"]
        self.expect(self._run("train", "experiment.yaml", "--run-dir", f"runs/{run}", *seed, *options), {0})

    def gate(self, run: str) -> Outcome:
        return self._run("evaluate", f"runs/{run}", "--fail-below", "click.auc=0.6")

    def promote(self, run: str) -> Outcome:
        return self._run("promote", f"runs/{run}", "current")

    def rollback(self) -> Outcome:
        return self._run("promote", "--rollback", "current")

    def score(self, day: str, *options: str, limit: int | None = None) -> Outcome:
        """Scores a day with the current model; ``limit`` is how many bytes a file may have."""
        return self._run(*self._scoring(day), *options, limit=limit)

    def killed(self, day: str, draw: random.Random) -> Outcome:
        """Scores a day until it is killed at some moment."""
        return self._struck(day, signal.SIGKILL, draw)

    def stopped(self, day: str, draw: random.Random) -> Outcome:
        """Scores a day until it is asked to stop at some moment."""
        return self._struck(day, signal.SIGTERM, draw)

    def doubled(self, day: str) -> list[Outcome]:
        """Scores a day twice at the same time."""
        arguments = self._scoring(day)
        logs = [self.folder / f"log{number}" for number in range(2)]
        started = [start_warm(arguments, log, log, self.folder) for log in logs]
        return [self._ended(process, arguments, log) for process, log in zip(started, logs, strict=True)]

    def scores(self, day: str, out: str = "out") -> list[tuple[int, float]]:
        """Row and score of all parts of a day."""
        parts = [pq.read_table(path) for path in sorted((self.folder / out / f"day={day}").glob("part-*.parquet"))]
        table = pa.concat_tables(parts)
        return list(zip(table["row"].to_pylist(), table["score_click"].to_pylist(), strict=True))

    def summary(self, day: str) -> dict[str, Any]:
        """A day's ``_summary.json``."""
        return json.loads((self.folder / "out" / f"day={day}" / "_summary.json").read_text())

    def reference(self, run: str) -> dict[int, float]:
        """Row -> score, of all days' rows in one job of a run's own."""
        out = f"all-{run}/day=all"
        self.expect(self._run("score", f"runs/{run}", "in/*/*.parquet", out, "--domain", "home", "--keep", "row"), {0})
        return dict(self.scores("all", f"all-{run}"))

    def expect(self, outcome: Outcome, statuses: set[int], *said: str) -> int:
        """The status of a command, which is one of these; and it said all of this.

        Raises:
            Broken: it is not, or it did not.
        """
        traced = "Traceback" in outcome.said
        if outcome.status not in statuses or traced or not all(words in outcome.said for words in said):
            words = f", and {said} in it" if said else ""
            raise Broken(
                f"{outcome.arguments}: status {outcome.status}, not of {statuses}{words}:\n{outcome.said[-2000:]}"
            )
        return outcome.status

    def _scoring(self, day: str) -> tuple[str, ...]:
        return ("score", "current", f"in/day={day}", f"out/day={day}", "--domain", "home", "--keep", "row")

    def _struck(self, day: str, what: signal.Signals, draw: random.Random) -> Outcome:
        arguments, log = self._scoring(day), self.folder / "log0"
        process = start_warm(arguments, log, log, self.folder)
        while not log.exists():  # before it begins it heeds nothing
            time.sleep(0.01)
        time.sleep(draw.uniform(0.05, _WORKS))
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, what)
        return self._ended(process, arguments, log)

    def _run(self, *arguments: str, limit: int | None = None) -> Outcome:
        log = self.folder / "log0"
        process = start_warm(arguments, log, log, self.folder)
        if limit is not None and process.pid is not None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return self._ended(process, arguments, log)

    def _ended(self, process: Any, arguments: tuple[str, ...], log: Path) -> Outcome:
        process.join(HANGS)
        if process.exitcode is None:
            process.kill()
            raise Broken(f"{arguments} hangs")
        said = log.read_text(errors="replace") if log.exists() else ""
        log.unlink(missing_ok=True)
        return Outcome(arguments, process.exitcode, said)

    def _made(self, name: str) -> Path:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self.folder / name


def _rows(numbers: Iterable[int]) -> pa.Table:
    """Rows that depend on their number alone."""
    row = np.array(list(numbers), np.int64)
    mixed = (row * 2654435761) % 2**32
    return pa.table(
        {
            "row": row,
            "user": mixed % _USERS,
            "item": (mixed // _USERS) % _ITEMS,
            "price": np.round((mixed % 997) / 10, 1),
        }
    )
