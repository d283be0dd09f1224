"""No gate, and no aspects."""

from typing import Literal

from ...data.settings_base import Strict


class NoGate(Strict):
    """No aspects: all lookups, numbers and vectors side by side, for a plain multi-task model."""

    kind: Literal["none"] = "none"
