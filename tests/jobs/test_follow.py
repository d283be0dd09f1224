"""An update that goes on looking for new days."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundrank.dist.increments import learn
from foundrank.dist.train.train import train

from .commands import COMMAND, ENVIRONMENT, Here, foundrank
from .updates import assert_same, current, record


def test_who_asks_it_to_stop_in_a_last_step_is_heard(
    feed: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    run = Path(shutil.copytree(feed / "RUN", tmp_path / "run"))
    events = str(feed / "events/feed/day=2026-01-0[67]/*.parquet")

    def then_told(job: Any, runtime: Any, preemption: Any) -> int | None:
        done = train(job, runtime, preemption)
        os.kill(os.getpid(), signal.SIGTERM)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(learn, "train", then_told)
        assert here("update", run, "--events", events, "-p", 1)[0] == 75
    assert len(record(run)) == 1  # which is published, and no other is begun
    assert here("update", run, "--events", events, "-p", 1)[0] == 0
    assert len(record(run)) == 2


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
            (half / "part-00001.parquet").write_bytes(
                b"PAR1, and more of it will come"
            )  # as a writer leaves it for a while
            time.sleep(2)
            (half / "part-00001.parquet").unlink()
            (half / "_SUCCESS").touch()
            wait_for(lambda: len(record(run)) == 2, process)
            # What comes late into a day that was learned is told, and no reason to end.
            late = add(8)
            shutil.move(late / "part-00000.parquet", half / "late.parquet")
            wait_for(lambda: "was learned from in increment 2" in told.read_text(), process)
            (half / "late.parquet").unlink()
            late.rmdir()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 75
        finally:
            process.kill()
    foundrank("update", other, *line)
    assert [one["digest"] for one in record(run)] == [one["digest"] for one in record(other)]
    assert_same(current(run), current(other))
