"""Imported first by the process that ranks are forked from, which imports the rest for them: see `launch.preload`."""

import gc

from . import quiet  # noqa: F401

gc.disable()  # as `quick_imports`; a rank enables it when it begins
