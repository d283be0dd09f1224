"""Importing what is large."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports(own_process: bool = True) -> Iterator[None]:
    """Within it nothing looks for garbage: what PyTorch and TorchRec make as they are imported stays, and looking through it again
    and again takes a fifth of the time.

    Args:
        own_process: whether this process is the job's alone; then nothing looks through it later either.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if own_process:
            gc.freeze()
        if collects:
            gc.enable()
