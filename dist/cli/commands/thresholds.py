"""What a job whose result is written says of the thresholds that a user gave."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...logs.records import result, warning
from ...ranks.statuses import DONE, THRESHOLD

# For start-up time: pydantic and more come with it.
if TYPE_CHECKING:
    from ...score.writing import Thresholds


def tell_thresholds(summary: Mapping[str, Any], limits: "Thresholds", speaks: bool) -> int:
    """The status that a job with this summary leaves with; one rank ``speaks``."""
    if speaks and limits.mean_shift is not None and summary["drift"] is None:
        result("--max-mean-shift: there is no summary to compare with yet")
    for told in summary["thresholds_passed"] if speaks else ():
        warning(f"threshold passed: {told}", "threshold")
    return THRESHOLD if summary["thresholds_passed"] else DONE
