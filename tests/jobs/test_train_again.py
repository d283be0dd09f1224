"""The same command again: the same numbers, or what was left to do."""

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil

from .commands import COMMAND, ENVIRONMENT, foundrank, ranks_of


def losses(run: Path) -> list[tuple[int, float, dict[str, float]]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["losses"]) for line in lines]


def test_a_killed_training_goes_on_where_it_was(run, embedded, train_arguments, tmp_path):
    killed = tmp_path / "killed"
    command = ["train", embedded, "--run-dir", killed, *train_arguments]
    process = subprocess.Popen(
        [*COMMAND, *map(str, command)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: list(killed.glob("checkpoints/*/COMMITTED")), process)
    # All of it is ended at once, as when a machine goes down.
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    assert json.loads((killed / "run.json").read_text())["format"] == 2
    begun = max(int(path.parent.name.removeprefix("step_")) for path in killed.glob("checkpoints/*/COMMITTED"))

    foundrank(*command)
    assert losses(killed) == losses(run)
    assert begun < json.loads((killed / "run.json").read_text())["steps"]
    foundrank("evaluate", killed, "-p", "2")
    given, wanted = (json.loads((folder / "evaluation.json").read_text())["rows"] for folder in (killed, run))
    assert given == wanted


def test_a_training_asked_to_stop_saves_and_goes_on_where_it_was(run, embedded, train_arguments, tmp_path):
    stopped = tmp_path / "stopped"
    command = ["train", embedded, "--run-dir", stopped, *train_arguments, "--set", "training.checkpoint_every=100000"]
    step = 0
    for told in (signal.SIGTERM, signal.SIGUSR1):
        process = subprocess.Popen(
            [*COMMAND, *map(str, command)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        after = [(step + 2,)]
        wait_until(lambda: (stopped / "metrics.jsonl").is_file() and losses(stopped)[-1:] > after, process)  # noqa: B023
        if told == signal.SIGTERM:
            process.send_signal(told)  # the launcher, as kubelet does
        else:
            ranks_of(process)[1].send_signal(told)  # one rank knows, all stop
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 75, errors
        step = max(int(path.parent.name.removeprefix("step_")) for path in stopped.glob("checkpoints/*/COMMITTED"))
        assert f"stopped after step {step}" in said
        assert losses(stopped)[-1][0] == step
        assert "Traceback" not in errors

    foundrank(*command)
    assert losses(stopped) == losses(run)


def wait_until(ready, process):
    end = time.monotonic() + 120
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_finished_training_changes_nothing(run, embedded, train_arguments):
    before = {path.name for path in (run / "checkpoints").iterdir()}, losses(run)
    foundrank("train", embedded, "--run-dir", run, *train_arguments)
    assert ({path.name for path in (run / "checkpoints").iterdir()}, losses(run)) == before
