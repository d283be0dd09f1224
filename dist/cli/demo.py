"""The demo: the whole path from simulated logs to scores, with the commands a user would type."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from ...data.config.load import load_experiment
from ...data.errors import UserError
from ...model.kinds import KINDS
from ..evaluate.measures import measured_by
from ..evaluate.slices import summary
from ..run.run_documents import Evaluation
from ..run.run_folder import EVALUATION, read_json


def run_demo(out: Path, rows: int, processes: int, console: Console) -> None:
    """Runs every command, showing each one before it starts; stops at the first that fails.

    Steps whose result is already there are done again from nothing: a demo shows what happens, not what happened.

    Raises:
        UserError: a step failed.
    """
    started = time.perf_counter()
    data, pretrain, finetune = out / "data", out / "pretrain", out / "finetune"
    for folder in (data, pretrain, finetune, out / "scores"):
        shutil.rmtree(folder, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    _foundrank(console, "simulate", data, "--rows", rows)
    _foundrank(console, "embed", data)
    _foundrank(console, "describe", data)
    _torchx(console, data / "experiment.yaml", pretrain, processes)
    _foundrank(console, "evaluate", pretrain, "-p", processes)
    experiment = load_experiment(data, kinds=KINDS)
    cold = next(name for name, domain in experiment.domains.items() if domain.cold)
    # A path in an experiment is relative to the experiment's file.
    settings = f"init_from=../{pretrain.name}; only=[{cold}]; training.freeze=[L0, L1]"
    _foundrank(console, "train", data, "--run-dir", finetune, "-p", processes, "--set", settings)
    _foundrank(console, "evaluate", finetune, "-p", processes)
    source = Path(experiment.domains[cold].events.test or "").parent
    _foundrank(console, "score", finetune, source, out / "scores", "--domain", cold, "-p", processes)
    _show_scores(console, out / "scores")
    console.rule()
    console.print(
        f"mean test AUC, all domains: {_told(pretrain)}\n"
        f"{cold}: {_told(pretrain, cold)} pretrained; {_told(finetune, cold)} fine-tuned\n"
        f"{time.perf_counter() - started:.0f} s in all; open {pretrain / 'report.html'}",
        highlight=False,
    )


def _told(run: Path, domain: str | None = None) -> str:
    evaluation = read_json(run / EVALUATION, Evaluation)
    rows = [row for row in evaluation["rows"] if domain in (None, row["domain"])]
    means = summary(rows, measured_by(evaluation))
    return ", ".join(f"{task} {of_task['all']['auc']:.4f}" for task, of_task in means.items())


def _foundrank(console: Console, *arguments: object) -> None:
    _show(console, ["foundrank", *map(str, arguments)])
    _run([sys.executable, "-m", "foundrank.dist.cli", *map(str, arguments)])


def _torchx(console: Console, experiment: Path, run: Path, processes: int) -> None:
    """Training goes through TorchX, as on a cluster, with the scheduler that runs here."""
    given = ["--experiment", str(experiment), "--run", str(run), "--nproc", str(processes)]
    command = ["torchx", "run", "-s", "local_cwd", "foundrank.train", *given]
    _show(console, command)
    _run(command)


def _show(console: Console, command: list[str]) -> None:
    console.rule()
    console.print(f"$ {shlex.join(command)}", highlight=False, markup=False, soft_wrap=True, style="bold")


def _run(command: list[str]) -> None:
    # torchx finds torchrun, and we find torchx, on PATH: the environment's own folder must come first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    code = subprocess.run(command, env={**os.environ, **threads, "PATH": path}, check=False).returncode
    if code:
        raise UserError(shlex.join(command), f"ended with status {code}", "Its own message is above.")


def _show_scores(console: Console, folder: Path) -> None:
    table = pq.read_table(folder).slice(0, 5)
    for row in table.to_pylist():
        shown = ", ".join(f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())
        console.print("  " + shown, highlight=False, soft_wrap=True)
