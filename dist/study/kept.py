"""Where the study keeps its trainings, and which of them count."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..run.run_documents import StudyResult
from ..run.run_folder import read_json
from .arms import FULL, Arm, DataSet

RESULT, PREDICTIONS = "result.json", "predictions.npz"


def arm_folder(out: Path, data: str, arm: str) -> Path:
    """Where an arm's trainings on a data set are kept, under the study's folder."""
    return out / "runs" / data / arm.replace(" ", "_")


def folder(data: DataSet, out: Path, arm: str, seed: int, rate: float) -> Path:
    """Where a training is kept."""
    return (arm_folder(out, data.name, arm) / f"seed-{seed}-rate-{rate:g}").absolute()


def is_done(kept: Path) -> bool:
    """Whether the training of a folder is done."""
    return (kept / RESULT).exists()


def kept_predictions(data: DataSet, arm: Arm, out: Path) -> tuple[list[Path], float]:
    """Folders of an arm's trainings that are done at its learning rate, by seed; and that rate, NaN while nothing tells it.

    It is the one that won on validation; an arm that does not tune has the full model's, whatever an earlier version tried.
    """
    tuned = _done(data, arm.name if arm.tunes else FULL, out)
    if not tuned:
        return [], np.nan
    first = tuned[0].name.split("-rate-")[0]  # the seed that tried all rates
    rate = tuned_rate([one for one in tuned if one.name.startswith(f"{first}-rate-")])
    return [one for one in _done(data, arm.name, out) if read_json(one / RESULT, StudyResult)["rate"] == rate], rate


def _done(data: DataSet, arm: str, out: Path) -> list[Path]:
    """Folders of an arm's trainings that are done, at all rates."""
    return sorted(path.parent for path in arm_folder(out, data.name, arm).glob(f"seed-*/{RESULT}"))


def tuned_rate(folders: Sequence[Path]) -> float:
    """The factor with the best validation AUC among an arm's trainings of one seed."""
    results = [read_json(folder / RESULT, StudyResult) for folder in folders]
    return max(results, key=lambda result: result["validation_auc"] or 0)["rate"]
