"""Turns of the processes that tune in one folder."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...data.storage.storage import LEASE
from ..lease.lease import Claim, Held, holding

_PAUSE = 0.1  # seconds


@contextmanager
def alone(out: Path, work: str) -> Iterator[None]:
    """Within it no other process does the same work in a folder; waits until that is so.

    Args:
        out: the folder.
        work: a word for it.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(holding(Claim(out, "tune", f"{LEASE}-{work}"), lambda error: None))
                break
            except Held:
                time.sleep(_PAUSE)
        yield
