"""A plain log: who took what and when, sorted, each user's events together and oldest first."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..sources.histories_and_negatives import temporal_splits
from ..sources.next_item_rows import Steps, leave_one_out

LEAVE_ONE_OUT, TEMPORAL = "leave-one-out", "temporal"


@dataclass(frozen=True)
class PlainLog:
    """N events.

    Attributes:
        steps: who took what, in order.
        columns: name -> ``[N]`` column of the events, the ids among them.
        user: name of the user's column.
        item: of the item's.
        time: of the time's; None where there is only an order.
        told: what was left out, in words.
    """

    steps: Steps
    columns: dict[str, pa.Array]
    user: str
    item: str
    time: str | None
    told: tuple[str, ...] = ()

    def split(self, how: str) -> np.ndarray:
        """``[N]`` 0 train, 1 validation, 2 test: each user's last two held out, or the last fifth of the log by time."""
        return leave_one_out(self.steps.user) if how == LEAVE_ONE_OUT else temporal_splits(self.steps.moment)


def in_order(
    user: np.ndarray, item: np.ndarray, moment: np.ndarray, columns: dict[str, pa.Array]
) -> tuple[Steps, dict]:
    """Events sorted by user and moment, those of one moment as they were given; and their columns."""
    order = np.lexsort((moment, user))
    at = pa.array(order)
    return Steps(user, item, moment).take(order), {name: values.take(at) for name, values in columns.items()}
