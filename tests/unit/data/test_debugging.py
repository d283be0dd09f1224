"""A process that a debugger has hold of."""

import os
import pdb  # noqa: T100
import sys
import threading
import time

import pytest

from foundrank.data import debugging
from foundrank.data.debugging import debugger


@pytest.fixture(autouse=True)
def untraced(monkeypatch, tmp_path):
    monkeypatch.setattr(debugging, "_STATUS", tmp_path / "status")


def test_nothing_has_hold_of_a_test():
    assert debugger() is None


def test_a_thread_at_the_prompt_of_pdb_is_seen_until_it_goes_on():
    reader, writer = os.pipe()

    def stop_at() -> None:
        with os.fdopen(reader) as typed, open(os.devnull, "w") as shown:
            pdb.Pdb(stdin=typed, stdout=shown, nosigint=True).set_trace()
            sys.settrace(None)

    thread = threading.Thread(target=stop_at, daemon=True)
    thread.start()
    while debugger() is None:
        assert thread.is_alive()
        time.sleep(0.01)
    assert debugger() == "pdb"
    os.write(writer, b"c\n")
    os.close(writer)
    thread.join()
    assert debugger() is None


@pytest.mark.parametrize(("tracer", "found"), [("0", None), ("4711", "process 4711")])
def test_a_process_that_is_traced_is_seen(tracer, found):
    debugging._STATUS.write_text(f"Name:\tpython\nTracerPid:\t{tracer}\nUid:\t0\n")
    assert debugger() == found
