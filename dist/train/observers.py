"""What looks on while a model is trained: one list of them, told of every step and of every break, so that the loop is about training."""

from collections.abc import Iterator
from typing import NamedTuple

from ...data.batch.batch import Batch
from ...data.epoch.order import RankOrder
from ...model.foundation.outputs import Outputs


class Step(NamedTuple):
    """A step that is done.

    Attributes:
        number: since the training began, from 1.
        epoch: from 0.
        at: its place in the epoch's order.
        progress: share of the training that was over when it began.
        outputs: of the model, on its device: looking at their values waits for it.
    """

    number: int
    epoch: int
    at: int
    progress: float
    outputs: Outputs


class Observer:
    """Does nothing; those that look on do what they want to of this. Every rank has the same ones, in the same order."""

    def reading(self, order: RankOrder, batches: Iterator[Batch]) -> Iterator[Batch]:
        """An epoch begins, in this order. Returns the batches, which it may look at on their way."""
        return batches

    def before_step(self, number: int) -> None:
        """A step begins."""

    def after_step(self, step: Step) -> None:
        """A step is done."""

    def before_saving(self) -> None:
        """What was learnt is about to be kept. Raising an error here prevents that."""

    def pause(self) -> None:
        """What follows, until `resume`, is no training."""

    def resume(self) -> None:
        """Training goes on."""

    def finish(self, stopped: bool) -> None:
        """The training is over, or ``stopped`` as it was asked to."""

    def fail(self) -> None:
        """The training has failed, or was interrupted: what was begun ends, for the process may go on."""
