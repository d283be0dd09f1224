"""The encoder of a job's rows."""

from ...data.batch.encoded_catalogs import encode_catalogs
from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.counting.statistics import Statistics
from ..ranks.runtime import Runtime, patiently
from .once_a_host import once_a_host


def row_encoder(
    experiment: Experiment, statistics: Statistics, runtime: Runtime, of_training: bool = False
) -> RowEncoder:
    """A `RowEncoder` whose catalogs the ranks of a machine share. A collective; arguments and errors as of `RowEncoder`."""
    with patiently(runtime) as ranks:
        catalogs = once_a_host(lambda: encode_catalogs(experiment, statistics), ranks)
    return RowEncoder(experiment, statistics, of_training, catalogs)
