"""The study's runs: one arm, one seed, one rate; trained, tested and kept, each once."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..run.run_documents import Best
from ..run.run_folder import BEST, read_json, write_json
from .arms import FULL, PRETRAINED, RATES, Arm, DataSet
from .kept import PREDICTIONS, RESULT, folder, is_done, kept_predictions, tuned_rate

# Imported where it is used, for start-up time: what deals out the trainings needs no torch, and its processes import it once each.

_FIRST_SEED = 1


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        data: the data set.
        experiment: its file.
        arm: how to train.
        seed: of weights and order.
        rate: factor of both learning rates.
        folder: where it is kept.
        base: run folder to fine-tune.
        keep: whether its checkpoint is needed later.
    """

    data: DataSet
    experiment: Path
    arm: Arm
    seed: int
    rate: float
    folder: Path
    base: Path | None = None
    keep: bool = False


def run_arms(
    data: DataSet,
    every: Sequence[Arm],
    path: Path,
    out: Path,
    seeds: int,
    processes: int,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Trains what is not done of some arms, several trainings at a time, each on one thread.

    Each arm that tunes tries three learning rates on validation with its first seed, and keeps the best for all of them; the others
    have the full model's. One arm after another is finished, as far as nothing waits for it, so that a study that is stopped has whole arms.

    Args:
        data: the data set.
        every: its arms; one that others begin from stands before them, the full model before those that do not tune.
        path: its experiment.
        out: folder for runs; its file ``log`` takes what trainings say.
        seeds: the most an arm may have.
        processes: trainings at a time.
        after: called after each training, while others run.
    """
    left = sum(_left(data, arm, out, seeds) for arm in every)
    run_all(lambda: trainings(data, every, path, out, seeds), left, processes, out / "log", after)


def _left(data: DataSet, arm: Arm, out: Path, seeds: int) -> int:
    """How many trainings of an arm are to come; what is done at rates that it does not have, by an earlier version, is none of them."""
    of_seeds = range(_FIRST_SEED, _FIRST_SEED + wanted_seeds(arm, seeds))
    rate = kept_predictions(data, arm, out)[1]
    asked = {folder(data, out, arm.name, seed, rate) for seed in of_seeds}
    if arm.tunes:
        asked |= {folder(data, out, arm.name, _FIRST_SEED, each) for each in RATES}
    most = len(of_seeds) + (len(RATES) - 1 if arm.tunes else 0)
    return most - sum(map(is_done, asked))


def run_all(
    known: Callable[[], Iterable[Task]],
    left: int,
    processes: int,
    log: Path,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Trains those that are not done, the first of them first, several at a time, each on one thread.

    Args:
        known: what is to be trained, as far as it is known; asked again whenever a training has ended.
        left: how many trainings that will be.
        processes: trainings at a time.
        log: file that takes what trainings say.
        after: called whenever a training has ended, while others run.
    """
    begun: set[Path] = set()

    def waiting() -> Task | None:
        return next((one for one in known() if one.folder not in begun and not is_done(one.folder)), None)

    if waiting() is None:
        return
    ended = 0
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (log,)) as pool:
        running: set[Future[Task]] = set()
        while True:
            while len(running) < processes and (task := waiting()) is not None:
                begun.add(task.folder)
                running.add(pool.submit(_run, task))
            if ended:
                after()
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in (future.result() for future in done):
                ended += 1
                print(
                    f"{one.data.name}: {ended} of {left}: {one.arm.name}, seed {one.seed}, rate {one.rate}", flush=True
                )


def trainings(data: DataSet, every: Sequence[Arm], path: Path, out: Path, seeds: int) -> Iterator[Task]:
    """Arm after arm, the trainings whose learning rate is known and whose base is done; those that are done, too. Arguments as of `run_arms`."""
    rates: dict[str, float] = {}

    def tasks(arm: Arm, wanted: Iterable[int], rate: float) -> Iterator[Task]:
        for seed in wanted:
            base = None
            if arm.begins_from is not None:
                if arm.begins_from not in rates:
                    return
                base = folder(data, out, arm.begins_from, seed, rates[arm.begins_from])
                if not is_done(base):
                    continue
                base = base / "run"
            kept = folder(data, out, arm.name, seed, rate)
            yield Task(data, path, arm, seed, rate, kept, base, arm.name == PRETRAINED)

    for arm in every:
        if arm.tunes:
            tried = [folder(data, out, arm.name, _FIRST_SEED, rate) for rate in RATES]
            for rate in RATES:
                yield from tasks(arm, [_FIRST_SEED], rate)
            if all(map(is_done, tried)):
                rates[arm.name] = tuned_rate(tried)
        elif FULL in rates:
            rates[arm.name] = rates[FULL]
        if arm.name in rates:
            rest = range(_FIRST_SEED + arm.tunes, _FIRST_SEED + wanted_seeds(arm, seeds))
            yield from tasks(arm, rest, rates[arm.name])


def wanted_seeds(arm: Arm, seeds: int) -> int:
    """How many seeds an arm is to have in a study with so many."""
    return min(arm.seeds, seeds)


def that_change(data: DataSet, every: Sequence[Arm], path: Path) -> list[Arm]:
    """The arms without those that are the full model by another name, as the experiment has their settings anyhow."""
    from ...data.config.load import load_experiment
    from ...model.kinds import KINDS

    def experiment(arm: Arm) -> Any:
        return load_experiment(path, overrides(Task(data, path, arm, _FIRST_SEED, 1.0, Path())), kinds=KINDS)

    full = [experiment(arm) for arm in every if arm.name == FULL]
    return [arm for arm in every if arm.name == FULL or arm.begins_from or experiment(arm) not in full]


def overrides(task: Task) -> list[str]:
    """What the task changes in the experiment of its data set."""
    cold, share = task.data.cold, f"study-{task.arm.fraction:.0%}"
    fraction = [f"domains.{cold}.events.train=events/{cold}/{share}/part.parquet"] if cold is not None else []
    out = [*task.data.settings, *fraction, f"text.vectors={task.arm.vectors}", *task.arm.settings, f"seed={task.seed}"]
    return out + ([f"init_from={task.base}"] if task.base is not None else [])


_joined: list[Any] = []  # a pool's process: its process group, which it keeps from one training to the next


def _begin(log: Path) -> None:
    """In a new process of the pool: what trainings say goes to a file, and when the study is gone, so is this process."""
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    with log.open("a", encoding="utf-8") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # or it would go on in folders that the next study takes up


def _run(task: Task) -> Task:
    """In a process of the pool: it trains one model after another."""
    from ...data.config.load import load_experiment
    from ...model.kinds import KINDS
    from ..ranks.preemption import Preemption
    from ..ranks.runtime import start
    from ..run.kept_checkpoints import best
    from ..train.prepare import prepare
    from ..train.train import train

    trained_by = code_version()  # now, as what is on the disk may be another's when the training ends
    if not _joined:
        context = start()
        _joined.extend([context, context.__enter__()])
    runtime = _joined[1]
    experiment = load_experiment(task.experiment, overrides(task), kinds=KINDS)
    training = experiment.training
    rates = {
        "learning_rate": training.learning_rate * task.rate,
        "sparse_learning_rate": training.sparse_learning_rate * task.rate,
    }
    experiment = experiment.model_copy(update={"training": training.model_copy(update=rates)})
    run = task.folder / "run"
    with Preemption(runtime) as preemption:
        train(prepare(experiment, run), runtime, preemption)
    columns = _predictions(run, runtime)
    np.savez(task.folder / PREDICTIONS, **columns)  # type: ignore[arg-type]
    chosen = best(run).name
    if not task.keep:
        shutil.rmtree(run / "checkpoints")
    validated = read_json(run / BEST, Best, {}).get("validation")
    result = {"validation_auc": validated, "checkpoint": chosen, "rate": task.rate}
    told = {"version": trained_by, "day": datetime.now(UTC).date().isoformat()}
    write_json(task.folder / RESULT, result | told)
    return task


@cache
def code_version() -> str:
    """foundrank's version; in a git checkout with its commit, and whether the code has been changed since."""
    told = version("foundrank")
    root = Path(__file__).parents[2]

    def git(*words: str) -> str | None:
        said = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return None if said.returncode else said.stdout.strip()

    # Installed in an environment, it may lie within another project's checkout.
    if not (root / ".git").exists() or shutil.which("git") is None:
        return told
    if (commit := git("rev-parse", "--short", "HEAD")) is None:
        return told
    changed = git("status", "--porcelain", "--", "data", "model", "dist")
    return f"{told} ({commit}{', changed since' if changed else ''})"


def _predictions(run: Path, runtime: Any) -> dict[str, np.ndarray]:
    """The run's probabilities for the test rows of its domains, or ranks of their next items, with what metrics need."""
    from ...data.batch.row_encoder import RowEncoder
    from ...data.events.check_events import check_events
    from ..evaluate.next_item_metrics import next_item_ranks
    from ..evaluate.predict import predict
    from ..run.checkpoint_writer import load
    from ..run.kept_checkpoints import best
    from ..run.run_folder import open_run
    from ..sharding.shard import shard

    experiment, statistics = open_run(run)
    encoder = RowEncoder(experiment, statistics)
    sharded = shard(encoder.layout, experiment, runtime)
    load(best(run), sharded)
    files = {name: splits["test"] for name, splits in check_events(experiment, ["test"]).items() if "test" in splits}
    layout = encoder.layout
    item = layout.entities.index("item")
    if not layout.tasks:
        ranks, _ = next_item_ranks(sharded, encoder, files, runtime)
        kept = {name: ranks[name] for name in ("rank", "percentile", "chosen", "user")}
        return kept | {"item_counts": ranks["counts"][:, item]}
    columns, _, _ = predict(sharded, encoder, files, runtime)
    kept = {name: columns[name] for name in ("labels", "mask", "user", "list", "domain")}
    kept["probabilities"] = columns["scores"]
    kept["item_counts"] = columns["counts"][:, item]
    kept |= {f"probability/{task}": columns[f"oracle/{task}"] for task in layout.tasks if f"oracle/{task}" in columns}
    return kept | {"domains": np.array(layout.domains), "tasks": np.array(layout.tasks)}
