"""Ranks that end by themselves while they are asked to."""

import signal
import subprocess
from typing import Any, cast

from foundrank.dist.ranks import local_ranks


class _Gone:
    """A process whose number is nobody's any more, which its parent has not heard of yet."""

    def __init__(self):
        ended = subprocess.Popen(["true"])
        ended.wait()
        self.pid, self._asked = ended.pid, 0

    def is_alive(self) -> bool:
        self._asked += 1
        return self._asked == 1

    def join(self, timeout: float) -> None:
        """It has ended."""


def test_a_rank_that_has_just_ended_needs_no_signal():
    local_ranks._end(cast(Any, [_Gone(), _Gone()]), signal.SIGTERM, 1)
