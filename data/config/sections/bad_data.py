"""What becomes of what cannot be used."""

from typing import Literal

from pydantic import Field

from ...strict import Share, Strict


class BadDataConfig(Strict):
    """What becomes of rows, files and catalog rows that cannot be used."""

    policy: Literal["fail", "skip"] = Field(
        default="fail", description="fail: stop at the first one and name it; skip: go on without them, and count them"
    )
    max_share: Share = Field(
        default=0.01, description="skip: largest share of a split or a catalog that may be bad; more stops the job"
    )

    @property
    def skips(self) -> bool:
        """Whether a job goes on without them."""
        return self.policy == "skip"
