"""How the result of a job is written, and what of it would be told as wrong: what `score` and `recommend` both take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """What a summary may say without being told as wrong.

    Attributes:
        null_share: the largest share of the rows without a score.
        mean_shift: the most that the mean of a task's scores, in all or in a domain, may differ from the one before.
    """

    null_share: float | None = None
    mean_shift: float | None = None


@dataclass(frozen=True)
class Writing:
    """How the result is written.

    Attributes:
        overwrite: whether another job's result in the output folder is replaced, as soon as the new one is whole.
        partition_by: columns whose values become the names of folders.
        against: a summary, or the folder of one, whose means are compared with the new ones; that of a result which is
            overwritten, by default.
        thresholds: of the summary.
    """

    overwrite: bool = False
    partition_by: tuple[str, ...] = ()
    against: str | None = None
    thresholds: Thresholds = Thresholds()
