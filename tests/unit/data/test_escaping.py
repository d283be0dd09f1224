import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.data.escaping import visible

COMMANDS = [
    "\x00",
    "\x07",
    "\x08",
    "\r",
    "\x1b",
    "\x7f",
    "\x9b",
    "\x85",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ud800",
    "\U000e0041",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_become_their_escapes(command: str):
    shown = visible(f"a{command}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown == visible(shown)
    assert str(UserError(f"a{command}b", "is", "Go.")) == f"{shown}: is. Go."


@pytest.mark.parametrize(
    "text", ["", "plain", "naïve Ünïcode", "日本語", "עברית", "می\u200cخواهم", "👩\u200d🔬", "back\\slash"]
)
def test_words_stay_as_they_are(text: str):
    assert visible(text) == text


def test_a_name_cannot_begin_a_line_of_its_own():
    assert str(UserError("a\nerror: b", "is\n", "Go.")) == "a\\nerror: b: is\\n. Go."
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


@given(st.text())
def test_what_is_shown_commands_nothing(text: str):
    shown = visible(text)
    shown.encode()
    assert not any(one in shown for one in COMMANDS)
    assert len(shown.splitlines()) <= 1
