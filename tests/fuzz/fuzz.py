"""Every command on inputs that were changed at random: what it gives is right, or its user is told what is wrong.

    python -m tests.fuzz.fuzz --draws 2000

A draw is a function of its number. What does not hold ends it, with the number that shows it again: ``--first N --draws 1``.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from tests.importer_sources import SOURCES

from .bench import Bench, Outcome, checksums
from .changes import CHANGES, Change

_SCOPES = {  # what of the bench a command reads
    "describe": ("world",), "check": ("world",), "train": ("world",), "resume": ("world", "run"), "evaluate": ("world", "run"),
    "score": ("input", "run"), "recommend": ("users", "sequences"), "align": ("sequences", "run"), "report": ("run",), "plan": ("world",),
    "begin": ("world", "run"), "update": ("days", "run"), "embed": ("world",), "tokenize": ("world",), "count": ("world", "tables"), "set": (), **{name: (f"sources/{name}",) for name in SOURCES},
}  # fmt: skip
_CODES = "entities.item.contents.codes={codes: {method: rq_kmeans, levels: 2, size: 4}}"
_FEW = ("-k", "3", "--pool", "6", "--set", "model.next_item.loss=softmax; training.max_steps=2")
_OUTPUTS = ("out", "best", "made", "run", "sequences", "store")


class Broken(AssertionError):
    """Something did not hold."""


class Fuzz:
    """Draws, one after another, on one bench."""

    def __init__(self, folder: Path):
        self.bench = Bench(folder)
        self.wanted = {name: _parts(self._output(name, self._command(name))) for name in ("score", "recommend")}

    def draw(self, number: int) -> str:
        """One command after one or two changes; which command.

        Raises:
            Broken: what it said or gave is wrong.
        """
        choose = random.Random(number)
        name = choose.choice(sorted(_SCOPES))
        folder, changes = self.bench.fresh(), list[Change]()
        for _ in range(choose.choice([1, 1, 2]) if _SCOPES[name] else 0):
            part = choose.choice(_SCOPES[name])
            change = choose.choice([CHANGES[kind] for kind in sorted(CHANGES)])
            done = change(choose, folder if part == "world" else folder / part)
            changes += [done] if done else []
        before = checksums(folder)
        outcome = self.bench.run(*self._command(name), *(_set(choose, folder) if name == "set" else ()))
        after = checksums(folder)
        what = f"draw {number}: {' '.join(outcome.command)}\n" + "\n".join(change.what for change in changes)
        try:
            self._check(name, outcome, before, after, all(change.same for change in changes))
        except Broken as broken:
            raise Broken(f"{what}\n{broken}\n--- status {outcome.status}\n{outcome.said[-3000:]}") from broken
        return f"{name} {'told' if outcome.status else 'done'}"

    def _command(self, name: str) -> list[Any]:
        here, experiment = self.bench.here, self.bench.here / "experiment.yaml"
        commands: dict[str, list[Any]] = {
            "describe": ["describe", experiment],
            "check": ["train", experiment, "--check", "--run-dir", here / "made"],
            "train": ["train", experiment, "--run-dir", here / "made", "--set", "training.max_steps=3"],
            "resume": ["train", experiment, "--run-dir", here / "run"],
            "begin": ["train", experiment, "--run-dir", here / "made", "--set", f"init_from={here / 'run'}"],
            "update": [
                *("update", here / "run"),
                *(
                    word
                    for name in ("find", "home")
                    for word in ("--events", f"{name}={here / 'days' / name}/*.parquet")
                ),
            ],
            "evaluate": ["evaluate", here / "run"],
            "score": ["score", here / "run", here / "input", here / "out", "--domain", "find"],
            "recommend": ["recommend", here / "sequences", here / "users", here / "best", "-k", "3"],
            "align": ["align", here / "sequences", here / "made", "--reward", here / "run", *_FEW],
            "report": ["report", here / "run"],
            "embed": ["embed", experiment],
            "tokenize": ["tokenize", experiment, "--set", _CODES],
            "count": ["count", experiment, here / "made", "--from", here / "tables"],
            "set": ["train", experiment, "--check", "--run-dir", here / "made"],
            **{
                source: ["import", source.replace("_", "-"), here / "sources" / source, here / "made"]
                for source in SOURCES
            },
            "plan": ["plan", experiment, "--world-size", "4", "--device", "h100"],
        }
        return commands[name]

    def _output(self, name: str, command: list[Any]) -> Path:
        outcome = self.bench.run(*command)
        assert outcome.status == 0, outcome.said
        return self.bench.here / {"score": "out", "recommend": "best"}[name]

    def _check(self, name: str, outcome: Outcome, before: dict[str, str], after: dict[str, str], same: bool) -> None:
        if outcome.status not in (0, 2):
            raise Broken("it ended in neither of the ways it may")
        if "Traceback" in outcome.said:
            raise Broken("a traceback")
        if odd := {sign for sign in outcome.said if (ord(sign) < 32 and sign not in "\n\t\r") or ord(sign) == 127}:
            raise Broken(f"control characters in what it said: {odd}")
        if outcome.status == 2 and not (outcome.said.count("\n") >= 2 and ("error" in outcome.said.lower())):
            raise Broken("it refused, and did not say why and what to do")
        for file, held in before.items():
            if not file.startswith(_OUTPUTS) and after.get(file) != held:
                raise Broken(f"it changed {file}, which it was to read")
        if name in self.wanted:
            out = self.bench.here / {"score": "out", "recommend": "best"}[name]
            check: Callable[[Path], None] = self._scores if name == "score" else self._recommendations
            if outcome.status == 0:
                check(out)
                if same and not _close(_parts(out), self.wanted[name]):
                    raise Broken("the data said the same, and it gave something else")
            elif (out / "_SUCCESS").exists():
                raise Broken("it failed and says it succeeded")

    def _scores(self, out: Path) -> None:
        given, source = _parts(out), self.bench.here / "input"
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith((".", "_")))
        files = [path for path in files if not any(p.startswith((".", "_")) for p in path.relative_to(source).parts)]
        rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files if path.suffix == ".parquet")
        if given.num_rows != rows:
            raise Broken(f"{given.num_rows} scores of {rows} rows")
        for column in ("score_click", "score_buy"):
            scores = given[column].drop_null().to_numpy()
            if not ((scores >= 0) & (scores <= 1)).all():
                raise Broken(f"{column} holds what is no probability")

    def _recommendations(self, out: Path) -> None:
        given = _parts(out)
        known = set(pq.read_table(self.bench.here / "items.parquet")["item_id"].to_pylist())
        known |= {item for path in self.bench.pristine.glob("*/part-*.parquet") for item in _items(path)}
        if odd := {item for items in given["items"].to_pylist() for item in items or ()} - known:
            raise Broken(f"recommended what is no item: {sorted(map(str, odd))[:5]}")
        scores = given["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if not np.isfinite(scores).all():
            raise Broken("scores that are no numbers")


def _set(choose: random.Random, folder: Path) -> list[str]:
    """An override of a field that there is, or is not, by a value that may be odd."""
    keys = [
        "training.epochs",
        "model.gate",
        "model",
        "entities.item.features.price",
        "domains.find",
        "text.encoder",
        "only",
        "x",
        "",
    ]
    value = choose.choice(
        ["{}", "[]", "null", "1e999", ".nan", "x", "'a;b'", "-1", "{a: 1}", "!!python/name:os.system", "&a [*a]", "1"]
    )
    return ["--set", choose.choice(["", ";", " "]) + choose.choice(keys) + choose.choice(["=", "=", "", "=="]) + value]


def _items(path: Path) -> list[Any]:
    return pq.read_table(path, columns=["item"])["item"].to_pylist() if "item" in pq.read_schema(path).names else []


def _parts(folder: Path) -> pa.Table:
    parts = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    return pa.concat_tables(parts) if parts else pa.table({})


def _close(given: pa.Table, wanted: pa.Table) -> bool:
    """Whether two outputs say the same; the types of what was copied from the input may differ."""
    for name in wanted.column_names:
        if name not in given.column_names:
            return False
        one, other = given[name].to_pylist(), wanted[name].to_pylist()
        if name.startswith("score_"):
            one, other = (np.array([np.nan if v is None else v for v in values], float) for values in (one, other))
            if len(one) != len(other) or not np.allclose(one, other, rtol=0, atol=2e-5, equal_nan=True):
                return False
        elif name != "scores" and one != other:
            return False
    return True


def fuzz(
    draws: Annotated[int, typer.Option(min=1, help="how many")] = 2000,
    first: Annotated[int, typer.Option(help="number of the first")] = 0,
    go_on: Annotated[bool, typer.Option("--go-on", help="tell what does not hold, and go on")] = False,
) -> None:
    """Draws, and says what came of them."""
    with tempfile.TemporaryDirectory() as folder:
        bench, found, broken = Fuzz(Path(folder)), Counter[str](), 0
        for number in range(first, first + draws):
            try:
                found[bench.draw(number)] += 1
            except Broken as error:
                if not go_on:
                    raise
                broken += 1
                print(f"{error}\n{'=' * 80}", flush=True)
            if (done := number + 1 - first) % 100 == 0:
                print(f"{done} of {draws} draws", flush=True)
        print("\n".join(f"{what:20} {count:6}" for what, count in sorted(found.items())))
        if broken:
            raise SystemExit(f"{broken} of {draws} draws did not hold")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(fuzz)
    app()
