"""Runs that were moved together with what they were made from."""

import os
from collections.abc import Callable
from pathlib import Path

from ...data.config.experiment import Experiment
from ...data.config.locations import with_locations
from ...data.storage.delta_tables import DELTA, is_delta, is_table, table_of
from ...data.storage.file_systems import is_uri
from ...data.storage.globs import expand_glob
from ...data.storage.mirror import origin


def settled(experiment: Experiment, made_in: str | None, run: Path, there: Callable[[str], bool]) -> Experiment:
    """A run's experiment, with those locations in it that moved as the run did.

    A local location is looked for where it is as seen from the run's folder, as it was when the run was made, and stays what it
    was where nothing is there. What lies beside the run comes first, so that a copy of both uses the copied data.

    Args:
        experiment: as the run holds it.
        made_in: the folder in which the run was made; None where that is not known, as of runs of older versions.
        run: its folder now.
        there: says of a new location whether it is the one.
    """
    now = str(run.resolve())
    if made_in is None or made_in == now or origin(run) is not None:
        return experiment

    def change(location: str) -> str:
        if is_uri(location):
            return location
        delta = DELTA if is_delta(location) else ""
        moved = delta + os.path.normpath(os.path.join(now, os.path.relpath(location.removeprefix(delta), made_in)))
        return moved if there(moved) else location

    return with_locations(experiment, change)


def is_there(location: str) -> bool:
    """Whether a path is a file or folder, or a pattern that names files."""
    if is_delta(location):  # whether the version can be read is asked by whoever reads it
        return is_table(table_of(location)[0])
    return os.path.exists(location) or bool(expand_glob(location))
