"""Terminals, pipes and locales that take less than is printed."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from foundrank.dist.logs import prometheus

from .commands import COMMAND, ENVIRONMENT, Here, foundrank, settings


def test_output_may_be_cut_off(world: Path):
    """As by head, which closes its end of the pipe."""
    for arguments in (["schema"], ["describe", str(world)]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*COMMAND, *arguments], env=ENVIRONMENT, stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
        os.close(writer)
        assert done.returncode in (1, 141)
        assert done.stderr == b""


def test_a_locale_without_the_characters_is_no_fault(world: Path):
    plain = ENVIRONMENT | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([*COMMAND, "describe", str(world)], env=plain, capture_output=True, timeout=60, check=True)
    assert b"shop_feed" in done.stdout
    assert done.stdout.isascii()
    assert done.stderr == b""


def records(text: str) -> list[dict[str, Any]]:
    """Every line is a record."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "rank", "event", "message"} <= record.keys() for record in found)
    return found


def test_what_a_training_tells_is_records_and_numbers_for_prometheus(embedded: Path, tmp_path: Path):
    run, file = tmp_path / "run", tmp_path / "job.prom"
    changes = settings("training.max_steps=6", "training.epochs=1")
    asked = ("--log-format", "json", "--metrics-file", file)
    done = foundrank("train", embedded, "--run-dir", run, "-p", 2, *asked, *changes)
    [trained] = records(done.stdout)
    assert (trained["event"], trained["run"]) == ("trained", str(run))
    told = records(done.stderr)
    *earlier, last = [record for record in told if record["event"] == "progress" and record["work"] == "training"]
    first = next(record for record in earlier if record["step"])  # a slow start is told of before its first step
    assert first["step"] == 1
    assert (last["share"], last["step"]) == (1.0, 6)
    assert last["loss"] > 0
    [epoch] = [record for record in told if record["event"] == "epoch"]
    assert 0 < epoch["validation"] < 1
    assert {record["level"] for record in told} == {"info"}
    values, labels = prometheus.read(file.read_text())
    assert labels == {"command": "train", "experiment": "simulated", "run": str(run)}
    assert values["foundrank_training_step"] == 6
    assert values["foundrank_training_samples_total"] > 6 * 128
    assert values["foundrank_training_checkpoint_time_seconds"] > values["foundrank_job_start_time_seconds"]
    assert (values["foundrank_job_running"], values["foundrank_job_exit_status"]) == (0, 0)


def test_what_an_evaluation_tells_is_records(run: Path):
    told = records(foundrank("evaluate", run, "-p", "2", "--log-format", "json").stdout)
    rows = [record["metrics"] for record in told if record["event"] == "metrics"]
    assert rows == json.loads((run / "evaluation.json").read_text())["rows"]
    assert told[-1]["event"] == "evaluated"


def test_what_a_scoring_tells_is_a_line_each_in_any_width(run: Path, embedded: Path, tmp_path: Path):
    source, out = embedded / "events" / "shop_feed" / "test", tmp_path / ("long_name_" * 12)
    every = {"COLUMNS": "80", "FOUNDRANK_LOG_FORMAT": ""}
    done = subprocess.run(
        [*COMMAND, "score", run, source, out, "--domain", "shop_feed"],
        env=ENVIRONMENT | every,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(rf"scored [\d,]+ rows into {out}, [\d,]+ rows/s\n", done.stdout)
    for line in done.stderr.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\S+Z rank 0  \S", line)


def test_a_mistake_is_a_record_and_whoever_steps_through_sees_where_it_was_found(
    run: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    for name in ("FOUNDRANK_LOG_FORMAT", "FOUNDRANK_DEBUG", "FOUNDRANK_PLAIN"):
        monkeypatch.setenv(name, "")  # which takes back what the commands put there
    arguments = ("score", run, tmp_path / "nothing", tmp_path / "out")
    status, said = here(*arguments, "--log-format", "json")
    [record] = records(said)
    assert (status, record["status"], record["level"], record["where"]) == (2, 2, "error", "the input to score")
    assert "no file matches" in record["what"]
    status, said = here(*arguments, "--log-format", "text", "--debug")
    assert status == 2
    assert "Traceback" in said
    assert "error: the input to score\n  no file matches" in said
    status, said = here(*arguments, "--debug", "-p", 2)
    assert status == 2
    assert "--debug -p 2" in said
