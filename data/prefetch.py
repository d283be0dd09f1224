"""Work done ahead, in a thread."""

import os
import queue
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from .debugging import is_debugged

_T = TypeVar("_T")
_NICE = 19  # of a processor that others want all the time it gets a sixtieth


def prefetch(items: Iterator[_T], depth: int) -> Generator[_T, None, None]:
    """Runs an iterator in a thread, ``depth`` items ahead; its exceptions come out here.

    For whoever steps through the code it runs here, item by item.
    """
    if is_debugged():
        yield from items
        return
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        _yield_to_others()
        try:
            for item in items:
                if not put((item, None, False)):
                    return
            put((None, None, True))
        except BaseException as error:  # handed to the thread that asked for the item
            put((None, error, True))

    thread = threading.Thread(target=work, daemon=True, name="reader")
    thread.start()
    try:
        while True:
            item, error, over = ready.get()
            if error is not None:
                raise error
            if over:
                return
            yield item
    finally:
        stopped.set()
        if threading.current_thread() is not thread:  # one that nobody holds is closed in any thread
            thread.join(timeout=5)


def _yield_to_others() -> None:
    """Gives this thread less of a processor than the one that waits for it, where the system has priorities of threads.

    A training step on CPUs waits for the slowest rank several times: what the reader takes from one, all of them pay. What
    it needs is left over by these waits, if it may work some batches ahead.
    """
    if sys.platform == "linux":  # elsewhere the priority would be the whole process's
        thread = threading.get_native_id()
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, _NICE)
