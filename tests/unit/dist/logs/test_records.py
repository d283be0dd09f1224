"""What is told: as text for people, as JSON for programs; a record a line, and nothing in it that commands a terminal."""

import json
import re
import sys
import warnings

import pytest
from rich.table import Table

from foundrank.data.errors import UserError
from foundrank.dist.console import console
from foundrank.dist.logs import settings
from foundrank.dist.logs.records import fault, hint, info, mistake, result, told_output, warning

ODD = "shop\x1b[2J\nnext \u202eline s3://me:secret@bucket/x"
SHOWN = "shop\\x1b[2J\\nnext \\u202eline s3://***@bucket/x"


def records(text: str) -> list[dict]:
    """Every line as the JSON that it is, read as strictly as can be."""

    def refused(constant: str):
        raise ValueError(constant)

    return [json.loads(line, parse_constant=refused) for line in text.splitlines()]


def test_a_line_has_time_and_rank_and_is_not_broken(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("RANK", "3")
    info("word " * 60 + ODD)
    result("the result")
    said = capsys.readouterr()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z rank 3  (word ){60}" + re.escape(SHOWN) + "\n", said.err
    )
    assert said.out == "the result\n"


def test_quiet_leaves_warnings_errors_and_the_result(capsys, monkeypatch):
    monkeypatch.setenv(settings.QUIET, "1")
    info("note")
    hint("next")
    warning("careful")
    result("done")
    mistake(UserError("here", "is wrong", "Mend it."), 2)
    said = capsys.readouterr()
    assert said.out == "careful\ndone\n"
    assert said.err == "error: here\n  is wrong.\n  Mend it.\n"


def test_all_that_is_told_is_json(capsys, monkeypatch):
    monkeypatch.setenv(settings.FORMAT, "json")
    with told_output():
        info(ODD, "note", share=float("nan"), at=[1, 2.5, None], of={"a": ODD})
        warning("careful")
        mistake(UserError("a\nb", "is wrong", "Mend it."), 2)
        fault(ValueError("of ours"), 1, of_rank=True)
        hint("next: something")
        print("from a library\nin two lines")
        sys.stderr.write("Error: no such option\n")
        table = Table("name")
        table.add_row("x" * 200)
        console().print(table)
        warnings.warn("old", UserWarning, stacklevel=1)
        print("a rest", end="")
    said = capsys.readouterr()
    told = {record["message"]: record for record in records(said.err)}
    note = told[SHOWN.replace("\\n", "\n")]
    assert (note["level"], note["event"], note["rank"]) == ("info", "note", 0)
    assert (note["share"], note["at"]) == (None, [1, 2.5, None])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", note["time"])
    [wrong] = [record for record in told.values() if record["event"] == "mistake"]
    assert {name: wrong[name] for name in ("level", "where", "what", "remedy", "status")} == {
        "level": "error", "where": "a\\nb", "what": "is wrong", "remedy": "Mend it.", "status": 2,
    }  # fmt: skip
    assert told["ValueError: of ours"]["traceback"].endswith("ValueError: of ours\n")
    assert told["Error: no such option"]["level"] == "error"
    assert told["UserWarning: old"]["level"] == "warning"
    printed = [record["message"] for record in records(said.out)]
    assert printed[0] == "careful"
    assert {"from a library", "in two lines", "a rest"} < set(printed)
    assert not [line for line in printed if "next:" in line]
    assert any("x" * 200 in line for line in printed)


def test_a_warning_of_python_is_one_line_without_source(capsys):
    with told_output():
        warnings.warn("old\nand long", UserWarning, stacklevel=1)
    assert re.fullmatch(r"UserWarning: old and long \(\S+test_records.py:\d+\)\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (settings.FORMAT, "xml", "'xml'"),
        (settings.METRICS_FILE, "s3://bucket/job.prom", "is a URI"),
        (settings.METRICS_FILE, "/nowhere/at/all/job.prom", "is not there"),
        (settings.METRICS_FILE, "/", "is a folder"),
    ],
)
def test_settings_that_cannot_be_are_told_before_work(monkeypatch, name, value, what):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=what):
        settings.check_settings()
