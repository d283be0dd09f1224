"""Memory that is free, and still counts as this process's."""

import ctypes
import gc
import sys

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


def give_back_memory() -> None:
    """Gives back to the system what Arrow and the C library keep for later."""
    gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)
