"""What is said of an error, and the status that a command leaves with."""

import errno

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.ranks import ending


class Left(Exception):
    pass


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch):
    def leave(status: int):
        raise Left(status)

    monkeypatch.setattr(ending.os, "_exit", leave)
    monkeypatch.setattr(ending, "_clear_up", lambda: None)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("shop.yaml", "is odd", "Mend it."), "error: shop.yaml\n  is odd.\n  Mend it.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "error: /runs/a\n  cannot be written (No space"),
        (OSError(errno.EROFS, "Read-only file system"), "error: the disk\n  cannot be written (Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "error: /a\n  cannot be used (Permission denied)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/b"), "error: /b\n  cannot be used (File name too long)"),
    ],
)
def test_what_its_user_can_mend_is_one_paragraph(capsys: pytest.CaptureFixture[str], error: Exception, words: str):
    with pytest.raises(Left, match="2"):
        ending.end_failed(error)
    assert capsys.readouterr().err.startswith(words)


def test_a_name_that_the_locale_cannot_write_is_told(monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(ending.sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(Left, match="2"):
        ending.end_failed(UnicodeEncodeError("ascii", "caf\u00e9", 3, 4, "not in range"))
    assert "Set PYTHONUTF8=1." in capsys.readouterr().err


def test_output_that_nobody_takes_is_no_fault(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(Left, match="141"):
        ending.end_failed(BrokenPipeError())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [ValueError("of ours"), PermissionError(errno.EACCES, "of no file")])
def test_anything_else_is_traced(capsys: pytest.CaptureFixture[str], error: Exception):
    with pytest.raises(SystemExit, match="1"):
        ending.end_failed(error)
    assert str(error) in capsys.readouterr().err
