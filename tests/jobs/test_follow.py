"""An update that goes on looking for new days."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .commands import COMMAND, ENVIRONMENT, foundrank
from .updates import assert_same, current, record


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if true() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None
    assert true()


def test_days_are_learned_as_they_come_until_it_is_told_to_stop(feed: Path, tmp_path: Path):
    run, other, days = tmp_path / "run", tmp_path / "other", tmp_path / "days"
    for folder in (run, other):
        shutil.copytree(feed / "RUN", folder)

    def add(number: int) -> Path:
        return Path(shutil.copytree(feed / f"events/feed/day=2026-01-{number:02d}", days / f"day={number:02d}"))

    for number in (2, 3):  # which the first training has learned from
        add(number)
    line = ["--events", str(days / "day=*/*.parquet"), "-p", "2"]
    told = tmp_path / "told"
    with told.open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, "update", str(run), *line, "--follow", "0.5"],
            env=ENVIRONMENT, stdout=out, stderr=out, text=True, cwd=Path.cwd(), start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(lambda: "nothing new; looks again every 0.5 s" in told.read_text(), process)
            (add(6) / "_SUCCESS").touch()
            half = add(7)
            wait_for(lambda: (run / "increments.jsonl").exists(), process)
            wait_for(lambda: f"waits for {half}/_SUCCESS" in told.read_text(), process)
            assert len(record(run)) == 1
            (half / "_SUCCESS").touch()
            wait_for(lambda: len(record(run)) == 2, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 75
        finally:
            process.kill()
    foundrank("update", other, *line)
    assert [one["digest"] for one in record(run)] == [one["digest"] for one in record(other)]
    assert_same(current(run), current(other))
