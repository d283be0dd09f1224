"""Memory that is free, and still counts as this process's."""

import ctypes
import gc
import sys
from collections.abc import Mapping

ARENA_MAX = -8  # of malloc.h: heaps
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's


def give_back_memory() -> None:
    """Gives back to the system what Arrow and the C library keep for later."""
    gc.collect()
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    if _TRIM is not None:
        _TRIM(0)


def use_one_heap() -> None:
    """Has threads that begin from now on take memory from one heap: what one of them frees another can use, and it can be given back.

    For a process that is the job's alone: nothing can take it back.
    """
    set_malloc({ARENA_MAX: 1})


def set_malloc(options: Mapping[int, int]) -> None:
    """Sets options of glibc's malloc, by their numbers in malloc.h, where that is what there is."""
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, value in options.items():
            set_option(option, value)
