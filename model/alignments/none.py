"""No penalty."""

from typing import Literal

from torch import Tensor

from ...data.settings_base import Strict


class NoAlignment(Strict):
    """No penalty."""

    kind: Literal["none"] = "none"

    def penalty(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """A scalar; arguments as in `alignments`."""
        return z.new_zeros(())
