"""Work done ahead, in a thread."""

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


def prefetch(items: Iterator[_T], depth: int) -> Iterator[_T]:
    """Runs an iterator in a thread, ``depth`` items ahead; its exceptions come out here."""
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
        thread.join(timeout=5)
