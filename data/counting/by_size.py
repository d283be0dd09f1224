"""Settings that the size of the data decides where the experiment does not say.

A thousand rows in batches of 1,024 are one step an epoch, and two epochs are over before much is learnt. What is decided is written
into the run as if the experiment had said it: what a run means changes neither with the data nor with this rule.
"""

from ..config.experiment import Experiment

_BELOW = {2_000: 128, 20_000: 256, 50_000: 512}
"""Rows of training, all domains together -> the batch size below so many; from the last on it is the default."""


def by_size(experiment: Experiment, rows: int) -> Experiment:
    """The experiment with the batch size for so many rows of training, where it does not say one.

    A list loss needs each list whole in a batch, however long: there it is the default.

    Args:
        experiment: the experiment.
        rows: of training, all domains together; the same on every rank and for any number of them.
    """
    if experiment.training.says_batch_size:
        return experiment
    batch_size = experiment.training.batch_size
    if not any(domain.whole_lists for domain in experiment.domains.values()):
        batch_size = next((size for most, size in _BELOW.items() if rows < most), batch_size)
    return with_batch_size(experiment, batch_size)


def with_batch_size(experiment: Experiment, batch_size: int) -> Experiment:
    """The experiment with a batch size, as if it said so."""
    training = experiment.training.model_copy(update={"batch_size": batch_size})
    return experiment.model_copy(update={"training": training})
