"""Progress: told by time where there is no terminal, in a bar where there is one."""

import io
import json
import sys
import time

import pytest
from rich.console import Console

from foundrank.dist.logs import progress as module
from foundrank.dist.logs import prometheus, settings
from foundrank.dist.logs.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(module, "FIRST", 0.01)
    monkeypatch.setattr(module, "EVERY", 0.01)


def wait_for(said, text: str) -> str:
    """What was said until it holds a text; a test that waits in vain ends by its timeout."""
    heard = ""
    while text not in heard:
        heard += said()
        time.sleep(0.005)
    return heard


def test_it_is_told_now_and_then_though_the_work_says_nothing(capsys, often):
    with Progress("scoring", "rows", 400, "scoring") as done:
        done.add(100)
        line = wait_for(lambda: capsys.readouterr().err, "rows/s").splitlines()[0]
    assert "rank 0  scoring   25%  ETA " in line
    assert "100 of 400 rows" in line


def test_the_innermost_work_is_told(capsys, often):
    with Progress("training", said=lambda of: ("step 7", {"step": 7})) as outer:
        outer.share = 0.5
        with Progress("predicting", "rows", 10):
            heard = wait_for(lambda: capsys.readouterr().err, "predicting")
            capsys.readouterr()
            heard = wait_for(lambda: capsys.readouterr().err, "predicting")
            assert "training" not in heard
        assert " 50%" in wait_for(lambda: capsys.readouterr().err, "training")


def test_work_without_an_end_tells_how_long_it_takes(capsys, often):
    with Progress("reading the catalog"):
        assert "reading the catalog  0:00:0" in wait_for(lambda: capsys.readouterr().err, "reading")


def test_a_record_has_the_numbers(capsys, often, monkeypatch):
    monkeypatch.setenv(settings.FORMAT, "json")
    with Progress("scoring", "rows", 400) as done:
        done.add(100)
        said = wait_for(lambda: capsys.readouterr().err, "}\n")
    record = json.loads(said.splitlines()[0])
    assert (record["event"], record["work"], record["unit"]) == ("progress", "scoring", "rows")
    assert (record["share"], record["done"], record["total"]) == (0.25, 100, 400)
    assert {"eta_s", "elapsed_s", "rate"} < record.keys()


@pytest.mark.parametrize("name", [settings.QUIET, settings.NO_PROGRESS])
def test_it_can_be_left_out(capsys, often, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with Progress("scoring", "rows", 400) as done:
        done.tell()
        time.sleep(0.05)
    assert capsys.readouterr() == ("", "")


def test_only_rank_0_tells(capsys, often, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with Progress("scoring", "rows", 400) as done:
        done.tell()
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_what_is_left_is_the_rest_of_a_resumed_job():
    with Progress("training") as work:
        work.begin_at(0.5)
        work._begun -= 10
        work.share = 0.75
        left = work.remaining()
    assert left == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("width", [80, 50, 200])
def test_a_bar_keeps_share_and_time_left_in_its_line(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("training", said=lambda of: ("loss 0.6931  12,345 samples/s  " + "long " * 40, {})) as work:
        work.begin_at(0.0)
        work._begun -= 10
        work.share = 0.25
        assert module._bars is not None
        page = Console(file=io.StringIO(), width=width)
        page.print(module._bars.get_renderable())
    [line] = page.file.getvalue().splitlines()
    assert "25%" in line
    assert "ETA 0:00:3" in line
    assert "loss 0.6931" in line
    assert len(line) <= width
    assert module._bars is None


def test_the_file_for_prometheus_is_written_meanwhile(tmp_path, often, monkeypatch):
    file = tmp_path / "job.prom"
    monkeypatch.setenv(settings.METRICS_FILE, str(file))
    monkeypatch.setenv(settings.QUIET, "1")
    with Progress("scoring", "rows", 400, "scoring") as done:
        done.add(100)
        while not file.exists():
            time.sleep(0.005)
    values, _ = prometheus.read(file.read_text())
    assert values["foundrank_scoring_rows_total"] == 400  # all of it, for it ended well
    with Progress("scoring", "rows", 50, "scoring") as done:
        done.add(50)
    values, _ = prometheus.read(file.read_text())
    assert values["foundrank_scoring_rows_total"] == 450  # a counter goes up alone
    assert values["foundrank_job_running"] == 1
