"""The cold-start study: what pretraining, gates, texts, heads and alignment bring, on public data, with intervals."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ...data.config.load import load_experiment
from ...data.errors import UserError, nearest
from ...model.kinds import KINDS
from .arms import DATA_SETS, arms
from .datasets import prepare_data
from .document import write_study
from .runs import run_arms, that_change


def run_study(
    out: Path, source: Path | None, names: Sequence[str], seeds: int, processes: int, full: bool, doc: Path
) -> None:
    """Trains every arm that is not done, and writes the report; run again, it goes on.

    Each arm tries three learning rates on validation with its first seed, and keeps the best for all of them.

    Args:
        out: folder for data and runs.
        source: folder with the data sets, as their importers read them.
        names: data sets; all of them when empty.
        seeds: of the headline arms; the ablations have three at most.
        processes: trainings at a time.
        full: all rows of the data.
        doc: Markdown file of the report; figures go beside it.

    Raises:
        UserError: an unknown data set, or one that is not there.
    """
    known = {data.name: data for data in DATA_SETS}
    for name in names:
        if name not in known:
            raise UserError("--only", f"'{name}' is not a data set of the study", nearest(name, known))
    chosen = [known[name] for name in names or known]
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
        if run_arms(data, every, path, out, seeds, processes) or data == chosen[-1]:
            write_study(out, [each for each in chosen if (out / "runs" / each.name).is_dir()], seeds, full, doc)
