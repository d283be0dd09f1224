"""The folder of a run that is to be updated. Imports little: a mistake is told at once."""

import os
from pathlib import Path

from ...data.errors import UserError
from ...data.storage.file_systems import Location, is_uri

_EXPERIMENT = "experiment.yaml"


def local_run(run: Location) -> Path:
    """The folder of a run that is to be updated, by whatever links it was given.

    Raises:
        UserError: it is in an object store, or no run.
    """
    if is_uri(run):
        what = "is in an object store, and increments are learned on file systems alone"
        raise UserError(run, what, "Copy the run to a disk, update it there, and copy what it makes.")
    if not (Path(run) / _EXPERIMENT).is_file():
        raise UserError(
            run, f"has no {_EXPERIMENT}, so it is not a run", "Give the folder that `foundrank train` wrote."
        )
    return Path(os.path.realpath(run))
