"""A season of nightly scoring, with all that happens to it, into docs/results/reliability.md.

    python -m tests.chaos.nights --nights 200

Every twentieth night a model is trained, measured, and promoted if it is good enough; every night yesterday's rows are scored by
the current model. Files come late or are rewritten, jobs are killed, stopped, started twice, given another schema, or run
out of disk. In the end each row of each day has one score, of the newest model that was right when the day was last scored.
The first thing that does not hold ends it, with the seed that shows it again.
"""

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from foundrank.dist.study.markdown_sections import write_section

from .faults import Broken
from .night_jobs import Platform

RETRAINED = 20  # nights between trainings
BAD = {2, 5}  # trainings, by number, of which nothing good comes
ROLLED_BACK = {7}  # trainings whose model is taken back the night after

PLAIN, LATE, REWRITTEN, KILLED, STOPPED, DOUBLED, SCHEMA, TORN, NO_SPACE = (
    "nothing", "a file comes late", "a file is rewritten", "kill -9", "SIGTERM", "started twice", "another schema",
    "a damaged file", "no file above 2 kB",
)  # fmt: skip
ANOMALIES = (LATE, REWRITTEN, KILLED, STOPPED, DOUBLED, SCHEMA, TORN, NO_SPACE)
BAD_MODEL, TAKEN_BACK = "a model below the gate", "a promotion taken back"


@dataclass
class Day:
    """A day's input: the rows of each of its files, and the run that scored it last."""

    name: str
    files: dict[str, range] = field(default_factory=dict)
    run: str = ""


class Season:
    """Nights one after the other, drawn from a seed."""

    def __init__(self, folder: Path, seed: int):
        """Makes the platform."""
        self.draw = random.Random(seed)
        self.platform = Platform(folder)
        self.days: list[Day] = []
        self.promoted: list[str] = []
        self.done: Counter[str] = Counter()
        self._rows = 0

    def night(self, number: int) -> None:
        """All jobs of one night.

        Raises:
            Broken: something ended otherwise than it should, or was not told.
        """
        if number % RETRAINED == 0:
            self._retrain(number // RETRAINED)
        elif number % RETRAINED == 1 and number // RETRAINED in ROLLED_BACK:
            self.platform.expect(self.platform.rollback(), {0}, "back to")
            self.promoted.pop()
            self.done[TAKEN_BACK] += 1
        day = Day(str(date(2026, 1, 1) + timedelta(number)))
        for name in ("a", "b", "c"):
            self._arrive(day, name)
        self.days.append(day)
        what = self.draw.choice((PLAIN, *ANOMALIES))
        self.done[what] += 1
        self._score(day, what)

    def check(self) -> None:
        """Each day's scores beside those of a job of its own over all rows, by the run that should have scored it.

        Raises:
            Broken: a row is missing, there twice, or has another model's score.
        """
        wanted = {run: self.platform.reference(run) for run in {day.run for day in self.days}}
        for day in self.days:
            found = self.platform.scores(day.name)
            rows = sorted(row for rows in day.files.values() for row in rows)
            if sorted(row for row, _ in found) != rows:
                raise Broken(f"{day.name}: {len(found)} scores of {len(rows)} rows, or other rows")
            wrong = [row for row, score in found if abs(score - wanted[day.run][row]) > 1e-6]
            if wrong:
                raise Broken(f"{day.name}: rows {wrong[:5]} have another score than {day.run} gives them")
            summary = self.platform.summary(day.name)
            if summary["rows"] != len(rows) or Path(summary["run"]).name != day.run:
                raise Broken(f"{day.name}: its summary tells of {summary['rows']} rows by {summary['run']}")

    def _retrain(self, number: int) -> None:
        run = f"run{number}"
        self.platform.train(run, good=number not in BAD)
        gate = self.platform.gate(run)
        if number in BAD:
            self.platform.expect(gate, {3}, "--fail-below")
            self.done[BAD_MODEL] += 1
            return
        self.platform.expect(gate, {0})
        self.platform.expect(self.platform.promote(run), {0})
        self.promoted.append(run)

    def _arrive(self, day: Day, name: str) -> None:
        rows = range(self._rows, self._rows + self.draw.randrange(5, 60))
        self._rows = rows.stop
        day.files[name] = rows
        self.platform.write(day.name, name, rows)

    def _score(self, day: Day, what: str) -> None:
        platform = self.platform
        if what == KILLED:
            status = platform.expect(platform.killed(day.name, self.draw), {0, -9})
            self.done["killed before it was through"] += status != 0
        elif what == STOPPED:
            platform.expect(platform.stopped(day.name, self.draw), {0, 75})
        elif what == DOUBLED:
            for outcome in platform.doubled(day.name):
                platform.expect(outcome, {0, 75}, *(["another job works there", "process"] if outcome.status else []))
        elif what == SCHEMA:
            platform.write(day.name, "b", day.files["b"], other_schema=True)
            platform.expect(platform.score(day.name), {2}, "b.parquet", "price")
            platform.write(day.name, "b", day.files["b"])
        elif what == TORN:
            platform.tear(day.name, "c")
            platform.expect(platform.score(day.name), {2}, "c.parquet")
            platform.write(day.name, "c", day.files["c"])
        elif what == NO_SPACE:
            platform.expect(platform.score(day.name, limit=2048), {0, 2}, "")
        platform.expect(platform.score(day.name), {0})
        day.run = self.promoted[-1]
        if what in (LATE, REWRITTEN):
            self._again(self.draw.choice(self.days[-4:]), what)

    def _again(self, day: Day, what: str) -> None:
        """A day that was scored gets another file, or another content of one."""
        changed = what == REWRITTEN
        name = self.draw.choice(sorted(day.files)) if changed else f"late{len(day.files)}"
        self._arrive(day, name)
        again = self.platform.score(day.name)
        if changed or day.run != self.promoted[-1]:
            self.platform.expect(again, {2}, "--overwrite")
            again = self.platform.score(day.name, "--overwrite")
        self.platform.expect(again, {0})
        day.run = self.promoted[-1]


def nights(
    count: Annotated[int, typer.Option("--nights", min=1, help="nights")] = 200,
    seed: Annotated[int, typer.Option(help="of what happens, and when")] = 0,
    out: Annotated[Path, typer.Option(help="Markdown file with the table's place in it")] = Path(
        "docs/results/reliability.md"
    ),
) -> None:
    """Lives through the nights, checks all of them, and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        season = Season(Path(folder), seed)
        for number in range(count):
            try:
                season.night(number)
            except Broken as error:
                raise Broken(f"night {number}, seed {seed}: {error}") from error
            if number % 20 == 19:
                print(f"{number + 1} of {count}: {dict(season.done)}", flush=True)
        season.check()
    write_section(out, "nights", table(season, count, seed))


def table(season: Season, count: int, seed: int) -> str:
    """What happened, as Markdown."""
    rows = sum(len(rows) for day in season.days for rows in day.files.values())
    lines = [f"| {what} | {times} |" for what, times in season.done.most_common()]
    return f"""### Nights lived through

    python -m tests.chaos.nights --nights {count} --seed {seed}

| what happened | nights |
| --- | ---: |
{chr(10).join(lines)}

{count} nights, {rows:,} rows: each has one score, of the model that was current when its day was last scored, equal to what that
model gives it in a job of its own. What went wrong was told, with its status.
"""


if __name__ == "__main__":
    typer.run(nights)
