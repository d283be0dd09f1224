"""The study's runs: one arm, one seed, one rate; trained, tested and kept, each once."""

import os
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..run.run_documents import Best, StudyResult
from ..run.run_folder import BEST, read_json, write_json
from .arms import FULL, PRETRAINED, RATES, Arm, DataSet

# Imported where it is used, for start-up time: what deals out the trainings needs no torch, and its processes import it once each.

RESULT, PREDICTIONS = "result.json", "predictions.npz"
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


def run_arms(data: DataSet, every: Sequence[Arm], path: Path, out: Path, seeds: int, processes: int) -> int:
    """Trains what is not done of some arms; how many trainings that was.

    Each arm that tunes tries three learning rates on validation with its first seed, and keeps the best for all of them; the others
    have the full model's.

    Args:
        data: the data set.
        every: its arms.
        path: its experiment.
        out: folder for runs.
        seeds: the most an arm may have.
        processes: trainings at a time.
    """
    rates: dict[str, float] = {}
    done = 0

    def task(arm: Arm, seed: int, rate: float) -> Task:
        base = None
        if arm.begins_from is not None:
            base = folder(data, out, arm.begins_from, seed, rates[arm.begins_from]) / "run"
        keep = arm.name == PRETRAINED
        return Task(data, path, arm, seed, rate, folder(data, out, arm.name, seed, rate), base, keep)

    for stage in ([a for a in every if a.begins_from is None], [a for a in every if a.begins_from is not None]):
        tried = {arm.name: [task(arm, _FIRST_SEED, rate) for rate in RATES] for arm in stage if arm.tunes}
        done += run_all([one for of_arm in tried.values() for one in of_arm], processes, out / "log")
        rates |= {name: tuned_rate([one.folder for one in of_arm]) for name, of_arm in tried.items()}
        rates |= {arm.name: rates[FULL] for arm in stage if not arm.tunes}
        rest = [
            task(arm, _FIRST_SEED + n, rates[arm.name])
            for arm in stage
            for n in range(arm.tunes, min(arm.seeds, seeds))
        ]
        done += run_all(rest, processes, out / "log")
    return done


def that_change(data: DataSet, every: Sequence[Arm], path: Path) -> list[Arm]:
    """The arms without those that are the full model by another name, as the experiment has their settings anyhow."""
    from ...data.config.load import load_experiment
    from ...model.kinds import KINDS

    def experiment(arm: Arm) -> Any:
        return load_experiment(path, overrides(Task(data, path, arm, _FIRST_SEED, 1.0, Path())), kinds=KINDS)

    full = [experiment(arm) for arm in every if arm.name == FULL]
    return [arm for arm in every if arm.name == FULL or arm.begins_from or experiment(arm) not in full]


def run_all(tasks: Sequence[Task], processes: int, log: Path) -> int:
    """Trains those that are not done, several at a time, each on one thread; ``log`` takes what they say. How many they were."""
    todo = [task for task in tasks if not (task.folder / RESULT).exists()]
    if not todo:
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (log,)) as pool:
        for number, task in enumerate(pool.map(_run, todo, chunksize=1), 1):
            print(
                f"{task.data.name}: {number} of {len(todo)}: {task.arm.name}, seed {task.seed}, rate {task.rate}",
                flush=True,
            )
    return len(todo)


def tuned_rate(folders: Sequence[Path]) -> float:
    """The factor with the best validation AUC among an arm's trainings of one seed."""
    results = [read_json(folder / RESULT, StudyResult) for folder in folders]
    return max(results, key=lambda result: result["validation_auc"] or 0)["rate"]


def arm_folder(out: Path, data: str, arm: str) -> Path:
    """Where an arm's trainings on a data set are kept, under the study's folder."""
    return out / "runs" / data / arm.replace(" ", "_")


def folder(data: DataSet, out: Path, arm: str, seed: int, rate: float) -> Path:
    """Where a training is kept."""
    return (arm_folder(out, data.name, arm) / f"seed-{seed}-rate-{rate:g}").absolute()


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
    write_json(task.folder / RESULT, {"validation_auc": validated, "checkpoint": chosen, "rate": task.rate})
    return task


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
