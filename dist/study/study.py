"""The cold-start study: what pretraining, gates, texts, heads and alignment bring, on public data, with intervals."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ...data.config.load import load_experiment
from ...data.errors import UserError, nearest
from ...model.kinds import KINDS
from ..run.run_documents import StudyResult
from ..run.run_folder import read_json
from .arms import DATA_SETS, FULL, PRETRAINED, Arm, DataSet, arms
from .datasets import check_rows, prepare_data, rows_of
from .document import check_study, kept_beside, write_study
from .kept import RESULT, kept_predictions
from .measured import Conditions, Measured, write_measured
from .next_item import measure_next_items
from .results import measure_labels
from .runs import run_arms, that_change, wanted_seeds

_LEAST_SECONDS, _TIMES_AS_LONG = 60, 10
"""Between two times of measuring: so many seconds, and so many times as long as it took."""


def run_study(
    out: Path, source: Path | None, names: Sequence[str], seeds: int, processes: int, full: bool, doc: Path
) -> None:
    """Trains every arm that is not done, measures, and writes the report; run again, it goes on.

    What ``out`` holds of a data set is kept beside the report as soon as the full model is done, and while arms end, in place of
    what was measured of it before; the report is of all data sets that have been measured, here or elsewhere.

    Each arm tries three learning rates on validation with its first seed, and keeps the best for all of them.

    Args:
        out: folder for data and runs.
        source: folder with the data sets, as their importers read them.
        names: data sets; all of them when empty.
        seeds: of the headline arms; the ablations have three at most.
        processes: trainings at a time.
        full: all rows of the data.
        doc: Markdown file of the report; figures and what has been measured go beside it.

    Raises:
        UserError: an unknown data set, or one that is not there, a damaged report or file of what
            has been measured, or a data set that was made with another ``full``.
    """
    known = {data.name: data for data in DATA_SETS}
    for name in names:
        if name not in known:
            raise UserError("--only", f"'{name}' is not a data set of the study", nearest(name, known))
    chosen = [known[name] for name in names or known]
    check_study(doc, DATA_SETS)  # a damaged file is told now rather than after hours
    for data in chosen:
        check_rows(data, out / "data", full)
    for data in chosen:
        path = prepare_data(data, source, out / "data", full)
        for vectors in ("llm", "random"):
            command = [
                sys.executable,
                "-m",
                "foundrank.dist.cli",
                "embed",
                str(path),
                "--set",
                f"text.vectors={vectors}",
            ]
            # A study is one process, whichever of Slurm's tasks that is; a command of its own must not wait for the others.
            environment = {name: value for name, value in os.environ.items() if name != "SLURM_PROCID"}
            subprocess.run(command, check=True, env=environment)
        every = that_change(data, arms(data, list(load_experiment(path, kinds=KINDS).domains), seeds), path)

        def measure(data: DataSet = data, every: Sequence[Arm] = every, rows: int = rows_of(data, path)) -> None:
            if (found := measured(data, every, out, seeds, rows)) is not None:
                write_measured(found, kept_beside(doc))
                write_study(doc, DATA_SETS)

        run_arms(data, every, path, out, seeds, processes, _now_and_then(measure))
        measure()


def measured(data: DataSet, every: Sequence[Arm], out: Path, seeds: int, rows: int) -> Measured | None:
    """What a study's folder holds of a data set; None until the full model, which all else is compared with, has all its seeds.

    Args:
        data: the data set.
        every: its arms.
        out: the study's folder.
        seeds: that the headline arms are to have.
        rows: most rows of a domain's splits; 0 for all.
    """
    unfinished, results, seeds_there = {}, [], 0
    for arm in every:
        folders, _ = kept_predictions(data, arm, out)
        if arm.name == FULL:
            seeds_there = len(folders)
        results += [read_json(folder / RESULT, StudyResult) for folder in folders]
        if arm.name != PRETRAINED and len(folders) < wanted_seeds(arm, seeds):
            unfinished[arm.name] = (len(folders), wanted_seeds(arm, seeds))
    if FULL in unfinished:
        return None
    days = sorted({result["day"] for result in results if result.get("day")})
    on = Conditions(
        versions=sorted({result.get("version") or "of a version that was not noted" for result in results}),
        days=days[:1] + days[1:][-1:],
        seeds=seeds_there,
        rows=rows,
    )
    if data.cold is None:
        return measure_next_items(data, every, out, on, unfinished)
    return measure_labels(data, data.cold, every, out, on, unfinished)


def _now_and_then(measure: Callable[[], None]) -> Callable[[], None]:
    """Measures, but not so often that it would keep a processor from training."""
    due = 0.0

    def after_training() -> None:
        nonlocal due
        if (began := time.monotonic()) >= due:
            measure()
            ended = time.monotonic()
            due = ended + max(_LEAST_SECONDS, _TIMES_AS_LONG * (ended - began))

    return after_training
