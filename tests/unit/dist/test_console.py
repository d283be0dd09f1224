import io
import sys
import traceback
from pathlib import Path

import pytest
from rich.table import Table

from foundrank.dist import console as module
from foundrank.dist.console import console, visible_output
from foundrank.dist.report.page import page, paragraph

ODD = "\x1b]0;title\x1b\\\x1b[2J\u202ereversed[bold]"


def taken(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to standard output from now on."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_tables_and_lines_hold_no_commands(monkeypatch: pytest.MonkeyPatch):
    out = taken(monkeypatch)
    table = Table("name", title=ODD)
    table.add_row(ODD)
    shown = console(force_terminal=True, width=200, color_system=None)
    shown.print(table)
    shown.print(ODD)
    said = out.getvalue()
    assert "\\x1b]0;title" in said
    assert "[bold]" in said
    assert "\u202e" not in said
    assert "\x1b]0" not in said


def test_styles_are_kept(monkeypatch: pytest.MonkeyPatch):
    out = taken(monkeypatch)
    console(force_terminal=True, color_system="standard").print("bold", style="bold")
    assert "\x1b[1mbold\x1b[0m" in out.getvalue()


def test_all_that_is_printed_is_text(monkeypatch: pytest.MonkeyPatch):
    out = taken(monkeypatch)
    with visible_output():
        print(ODD)
        sys.stdout.writelines(["a\r", ODD])
        console(force_terminal=True, color_system="standard").print("bold", style="bold")
        sys.stdout.flush()
    said = out.getvalue()
    assert said.count("\\x1b]0;title") == 2
    assert "\x1b]0" not in said
    assert "\x1b[1mbold\x1b[0m" in said
    assert sys.stdout is out


def test_a_bar_may_go_back_to_where_its_line_begins(monkeypatch: pytest.MonkeyPatch):
    out = taken(monkeypatch)
    with visible_output():
        sys.stdout.write("\r 10%")
        sys.stdout.write("a\rb")
    assert out.getvalue() == "\r 10%a\\rb"


def test_a_pipe_has_room(monkeypatch: pytest.MonkeyPatch):
    out = taken(monkeypatch)
    table = Table("name")
    table.add_row("x" * 400)
    console().print(table)
    console().print("word " * 100)
    console().rule()
    assert "x" * 400 in out.getvalue()
    assert "word " * 99 in out.getvalue()
    assert out.getvalue().splitlines()[-1] == "─" * 80


def test_the_report_holds_no_commands():
    assert paragraph(ODD) == "<p>\\x1b]0;title\\x1b\\\\x1b[2J\\u202ereversed[bold]</p>"
    assert "\x1b" not in page("plan.html", title=ODD, facts=[(ODD, ODD)], sections={"a": (ODD, ODD)})


def test_no_other_console_is_made():
    for path in sorted(Path(module.__file__).parent.rglob("*.py")):
        assert path.name in ("console.py", "progress_bars.py") or " Console(" not in path.read_text(), path


@pytest.mark.parametrize(
    ("columns", "width"), [("0", 80), ("1", 80), ("none", 80), ("\u00b2", 80), ("9" * 20, 80), ("90", 90)]
)
def test_a_width_that_nobody_has_is_not_taken(monkeypatch: pytest.MonkeyPatch, columns: str, width: int):
    with monkeypatch.context() as here:  # what reports the test asks for the width, too
        taken(here)
        here.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
        here.setenv("COLUMNS", columns)
        assert console(stderr=True).width == width


def test_secrets_of_uris_are_not_printed(monkeypatch: pytest.MonkeyPatch):
    """Neither by libraries nor in tracebacks."""
    out = taken(monkeypatch)
    with visible_output():
        print("s3://me:secret@bucket/events")
        traceback.print_exception(ValueError("s3://bucket/events?secret_key=secret"), file=sys.stdout)
        console(width=100).print("s3://me:secret@bucket/events")
    said = out.getvalue()
    assert "secret" not in said
    assert said.count("s3://***@bucket/events") == 2
    assert "ValueError: s3://bucket/events?***" in said
