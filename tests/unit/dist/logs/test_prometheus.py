"""The file for Prometheus, read as strictly as Prometheus reads it."""

import math
import re

import pytest

from foundrank.dist.logs import prometheus, settings

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"({NAME})\{{({LABEL}(?:,{LABEL})*)?\}} (NaN|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
ODD = 'a"b\\c\nd\x1b[2J'


def parsed(text: str) -> dict[str, float]:
    """Name -> value; every line is one that the format has, each family is described once, before its samples."""
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    values, kinds, helped = {}, {}, set()
    for line in lines:
        if (found := re.fullmatch(rf"# HELP ({NAME}) (.+)", line)) is not None:
            assert found[1] not in helped
            helped.add(found[1])
        elif (found := re.fullmatch(rf"# TYPE ({NAME}) (gauge|counter)", line)) is not None:
            assert found[1] in helped
            assert found[1] not in values
            kinds[found[1]] = found[2]
        else:
            found = SAMPLE.fullmatch(line)
            assert found is not None, line
            assert found[1] in kinds
            assert found[1] not in values
            assert (kinds[found[1]] == "counter") == found[1].endswith("_total")
            values[found[1]] = float(found[3].replace("Inf", "inf"))
    return values


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.METRICS_FILE, str(tmp_path / "job.prom"))
    return tmp_path / "job.prom"


def test_a_file_can_be_parsed(file):
    prometheus.label(command="train", run=ODD, experiment="shop s3://me:secret@bucket/x")
    prometheus.note("foundrank_training_loss", math.nan)
    prometheus.note("foundrank_training_step", 12)
    prometheus.note("foundrank_training_progress_ratio", 1 / 3)
    prometheus.note("foundrank_training_remaining_seconds", math.inf)
    prometheus.write()
    text = file.read_text()
    values = parsed(text)
    assert math.isnan(values["foundrank_training_loss"])
    assert values["foundrank_training_step"] == 12
    assert values["foundrank_training_progress_ratio"] == 1 / 3
    assert values["foundrank_job_update_time_seconds"] >= values["foundrank_job_start_time_seconds"] > 1.7e9
    assert values["foundrank_job_running"] == 1
    assert "secret" not in text
    assert "\x1b" not in text
    _, labels = prometheus.read(text)
    assert labels == {"command": "train", "run": 'a"b\\c\nd\\x1b[2J', "experiment": "shop s3://***@bucket/x"}
    assert [path.name for path in file.parent.iterdir()] == ["job.prom"]


def test_names_say_their_units():
    for name, (kind, what) in prometheus.FAMILIES.items():
        assert re.fullmatch(r"foundrank_[a-z]+_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert what
        assert "\n" not in what


def test_the_end_is_told_with_its_status(file):
    prometheus.write()
    prometheus.ended(75, failed=False)
    values = parsed(file.read_text())
    assert (values["foundrank_job_running"], values["foundrank_job_exit_status"]) == (0, 75)
    assert values["foundrank_job_errors_total"] == 0


def test_who_started_the_ranks_tells_their_end_and_keeps_their_numbers(file):
    prometheus.note("foundrank_counting_rows_total", 5)
    text = prometheus.page(
        {"foundrank_training_step": 90, "foundrank_job_update_time_seconds": 4e9}, {"command": "train", "run": ODD}
    )
    file.write_text(text)
    prometheus.ended(1, failed=True)
    values = parsed(file.read_text())
    assert values["foundrank_training_step"] == 90
    assert values["foundrank_job_exit_status"] == 1
    assert values["foundrank_job_errors_total"] == 1
    assert prometheus.read(file.read_text())[1]["command"] == "train"


def test_a_file_of_an_older_job_says_nothing_of_this_one(file):
    file.write_text(prometheus.page({"foundrank_training_step": 90, "foundrank_job_update_time_seconds": 1e9}, {}))
    prometheus.ended(2, failed=True)
    assert "foundrank_training_step" not in parsed(file.read_text())


def test_other_ranks_write_nothing(file, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    prometheus.write()
    prometheus.ended(0, failed=False)
    assert not file.exists()


def test_a_disk_that_is_full_does_not_end_the_job(file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prometheus, "replace_file", full)
    prometheus.write()
