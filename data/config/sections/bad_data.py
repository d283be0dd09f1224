"""What becomes of what cannot be used."""

from typing import Literal

from pydantic import Field

from ...settings_base import Share, Strict


class BadDataConfig(Strict):
    """What becomes of rows, files and catalog rows that cannot be used."""

    policy: Literal["fail", "skip"] = Field(
        default="fail",
        description="fail: stop at the first bad row and name it; skip: leave bad rows out and count them",
    )
    max_share: Share = Field(
        default=0.01, description="skip: largest share of bad rows in a split or a catalog; beyond it the job stops"
    )

    @property
    def skips(self) -> bool:
        """Whether a job goes on without them."""
        return self.policy == "skip"
