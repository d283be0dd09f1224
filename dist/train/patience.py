"""When a training ends before its last epoch: after some validations in a row that were no better than the best before."""

from typing import Any

from ..logs.records import info
from ..ranks.runtime import Runtime


class Patience:
    """Counts the validations since the best one; the same on every rank, and in every checkpoint.

    The schedule of the learning rates is over all of ``epochs`` all the same: when a training will end is not known before.
    One that validates as well as the best so far is no better. One without a number does not count.
    """

    def __init__(self, patience: int | None, runtime: Runtime, state: dict[str, Any] | None = None):
        """Args: ``training.patience``, the process group, and the state of the checkpoint that a training goes on from."""
        before = (state or {}).get("patience") or {}
        self._patience, self._runtime = patience, runtime
        self._best: float | None = before.get("best")
        self._since: int = before.get("since", 0)

    @property
    def is_over(self) -> bool:
        """Whether to end the training."""
        return self._patience is not None and self._since >= self._patience

    def judge(self, validation: float | None) -> None:
        """Takes note of a validation's score, which rank 0 alone knows. A collective."""
        if self._patience is None:
            return
        found = self._runtime.on_main(lambda: validation)
        if found is None:
            return
        better = self._best is None or found > self._best
        self._best, self._since = (found, 0) if better else (self._best, self._since + 1)
        if self.is_over and self._runtime.is_main:
            after = "the last validation was" if self._since == 1 else f"the last {self._since} validations were"
            info(
                f"{after} no better than the best, {self._best:.4f}: the training ends here",
                "patience",
                best=self._best,
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {} if self._patience is None else {"patience": {"best": self._best, "since": self._since}}
