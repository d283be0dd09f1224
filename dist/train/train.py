"""Training: one loop."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from ...data.batch.batch import Batch
from ...data.batch.row_encoder import RowEncoder
from ...data.codes.quality import code_rows
from ...data.debugging import is_debugged
from ...data.epoch.order import Position, epoch_chunks, resume, rows_in
from ...data.epoch.reader import Reader
from ...data.machine.memory import give_back_memory
from ...data.prefetch import prefetch
from ...data.schema.sizes import padded_rows
from ...data.storage.mirror import shown
from ..exchange.row_encoders import row_encoder
from ..fine_tuning.begin import begin_from, begin_with_conditioning
from ..fine_tuning.freezing import learning_parts
from ..fine_tuning.pretrained import pretrained
from ..logs import prometheus
from ..logs.progress import Progress
from ..logs.records import result
from ..logs.settings import is_quiet
from ..ranks.cores import keep_to_own_cores
from ..ranks.preemption import Preemption
from ..ranks.runtime import Runtime
from ..retrieval.candidates import allowed_items, train_within_domains
from ..retrieval.protocol import Protocol
from ..retrieval.retrieval import draw_candidates
from ..run.checkpoint_writer import Checkpoints, load_newest
from ..run.old_runs import FORMAT
from ..run.run_documents import RunInfo
from ..run.run_folder import RUN_INFO, open_statistics, publish_run, read_json, write_json
from ..sharding.shard import compile_dense, shard
from .loss_watch import LossWatch
from .members import members_to_train
from .observers import Observer, Step
from .optimizer import Optimizer
from .prepare import TrainingJob, begin_run, check_optimizer
from .step_times import Startup, StepTimes
from .trace import Trace
from .training_log import TrainingLog
from .validation import Patience, validate
from .watchdog import Watchdog

# The reader's thread may keep the interpreter that long while the step waits for it; Python's own 5 ms cost 5 % of the rate.
SWITCH_SECONDS = 0.0002


def train(job: TrainingJob, runtime: Runtime, preemption: Preemption) -> int | None:
    """Trains an experiment's models into a run folder, one after the other, or goes on from the newest checkpoint.

    Args:
        job: what `prepare` made of the experiment and the run folder.
        runtime: the process group.
        preemption: says when to stop.

    Returns:
        The step after which it was asked to stop, with a checkpoint; None when the training is finished.

    Raises:
        UserError: bad data, or tables that do not fit.
    """
    for of_member in members_to_train(begin_run(job, runtime), runtime):
        if (stopped_after := _train(of_member, runtime, preemption)) is not None:
            return stopped_after
    return None


def _train(job: TrainingJob, runtime: Runtime, preemption: Preemption) -> int | None:
    """Trains one model. As of `train`."""
    startup, started = Startup(job.began, job.seconds), time.perf_counter()
    sys.setswitchinterval(SWITCH_SECONDS)
    experiment, run, events = job.experiment, job.member_folder, job.events
    prometheus.label(command="train", experiment=experiment.name, run=str(job.run))
    keep_to_own_cores(runtime.device)
    statistics = open_statistics(job.folder, experiment)
    encoder = row_encoder(experiment, statistics, runtime)
    startup.done("vocabularies and catalogs")
    layout, training = encoder.layout, experiment.training
    with Progress("building the model and its tables", main=runtime.is_main):
        base = pretrained(experiment) if training.freeze else None
        learning = learning_parts(base, layout, experiment) if base is not None else {}
        check_optimizer(experiment, runtime.device.type)  # here, too: another machine's compiler may not be this one's
        sharded = shard(layout, experiment, runtime, learning)
        compile_dense(sharded, experiment, runtime)
        times = StepTimes(sharded, runtime.device)
        optimizer = Optimizer(sharded, training, times.mark, learning)
        position, step = Position(), 0
        if (state := load_newest(run, sharded, optimizer, runtime)) is not None:
            position, step = Position.from_dict(state.get("position", Position().as_dict())), state["step"]
        else:
            begin_with_conditioning(sharded, encoder, runtime)
        if state is None and experiment.init_from is not None:
            told = begin_from(base or pretrained(experiment), sharded, encoder, runtime, job.member, optimizer)
            if runtime.is_main:
                for line in told if not is_quiet() else ():
                    result(shown(line), "begun")
    patience = Patience(training.patience, runtime, state)
    startup.done("model and tables")

    files = {layout.domains.index(name): of_domain["train"] for name, of_domain in events.items()}
    weights = {d: experiment.domains[layout.domains[d]].sampling_weight for d in files}
    lists = {layout.domains.index(name): of_domain for name, of_domain in statistics.lists.items()}
    longest = [of_domain.longest for of_domain in lists.values()]
    reader = Reader(encoder, files, padded_rows(training.batch_size, len(layout.domains), longest), of_training=True)
    train_events = {name: of_domain["train"] for name, of_domain in events.items()}
    if (allowed := allowed_items(Protocol(), encoder, train_events, runtime)) is not None:
        train_within_domains(encoder, allowed)
    draw = draw_candidates(encoder, runtime.rank)
    pipeline = TrainPipelineSparseDist(sharded, optimizer, runtime.device, execute_all_batches=True)  # type: ignore[arg-type]
    log = TrainingLog(run, experiment, runtime, layout, times, optimizer)
    log.start(step)
    checkpoints = Checkpoints(run, training.keep_checkpoints, runtime)
    observers = [
        startup,
        *([] if is_debugged() else [Watchdog(run, runtime, training.stall_seconds)]),
        LossWatch(run, files, runtime, training.log_every),
        log,
        *([Trace(run, runtime)] if job.profiled else []),
    ]
    preemption.listen()
    give_back_memory()

    with ExitStack() as running:
        running.push(partial(_tell_failure, observers))
        running.enter_context(torch.autograd.set_detect_anomaly(is_debugged() or torch.is_anomaly_enabled()))
        if training.epochs == 0 and state is None:  # what it begins with, as it is
            state = {"step": 0, "position": Position().as_dict()}
            if training.keep_best:
                state["validation"] = validate(sharded, encoder, events, run, 0, 0, runtime, allowed)
            if checkpoints.save(sharded, optimizer, state | patience.state(), True):
                checkpoints.wait()
            log.epoch(0, state.get("validation"))
        for epoch in range(position.epoch, training.epochs):
            if step == training.max_steps or patience.is_over:
                break
            chunks = epoch_chunks(files, weights, experiment.seed, epoch, training.shuffle_rows, lists)
            here = position if epoch == position.epoch else Position(epoch)
            orders, first, here = resume(chunks, here, runtime.world_size, training.batch_size)
            order = orders[runtime.rank]
            done = 1 - sum(sum(each.rows) for each in orders) / max(rows_in(chunks), 1)
            batches = reader.batches(order, first, draw(epoch))
            if runtime.device.type == "cuda":
                batches = map(Batch.pin_memory, batches)  # so that copies to the GPU go on beside its work
            batches = running.enter_context(closing(prefetch(batches, training.prefetch_batches)))
            for one in observers:
                batches = one.reading(order, batches)
            for at in range(first, order.steps):
                if step == training.max_steps or patience.is_over:
                    break
                progress = (epoch + done + (1 - done) * at / order.steps) / training.epochs
                progress = max(progress, step / training.max_steps) if training.max_steps else progress
                optimizer.set_progress(progress)
                step += 1
                for one in observers:
                    one.before_step(step)
                _seed(experiment.seed, step, runtime.rank)
                outputs = pipeline.progress(batches)
                for one in observers:
                    one.after_step(Step(step, epoch, at, progress, outputs))
                # The last step, and an epoch's, has a checkpoint of its own.
                inside = at + 1 < order.steps and step != training.max_steps
                stopped = inside and preemption.check()
                judged = inside and training.validate_every is not None and step % training.validate_every == 0
                if stopped or judged or (inside and step % training.checkpoint_every == 0):
                    state = {"step": step, "position": here.after(runtime.world_size, at + 1).as_dict()}
                    _check(observers, checkpoints, sharded, optimizer)
                    if judged:
                        over = epoch + done + (1 - done) * (at + 1) / order.steps
                        with _no_training(observers, pipeline):
                            state["validation"] = validate(sharded, encoder, events, run, step, over, runtime, allowed)
                            patience.judge(state["validation"])
                            log.epoch(over, state["validation"])
                    last = stopped or patience.is_over
                    if checkpoints.save(sharded, optimizer, state | patience.state(), last):
                        with _no_training(observers, pipeline):
                            checkpoints.wait()
                if stopped:
                    _finish(observers, checkpoints, stopped)
                    return step
            if patience.is_over:  # inside an epoch: its checkpoint is there, and says where
                break
            _check(observers, checkpoints, sharded, optimizer)
            with _no_training(observers, pipeline):
                state = {"step": step, "position": Position(epoch + 1).as_dict()}
                if training.keep_best:
                    state["validation"] = validate(sharded, encoder, events, run, step, epoch + 1, runtime, allowed)
                    patience.judge(state["validation"])
                last = patience.is_over or step == training.max_steps or epoch + 1 == training.epochs
                if checkpoints.save(sharded, optimizer, state | patience.state(), last):
                    checkpoints.wait()
                log.epoch(epoch + 1, state.get("validation"))
    _finish(observers, checkpoints, stopped=False)
    if runtime.is_main:
        info = read_json(run / RUN_INFO, RunInfo, {}) | {"format": FORMAT}
        info |= _run_info(sharded, encoder, runtime, step, time.perf_counter() - started)
        info |= {"startup_s": startup.seconds, "first_step_at": startup.first_step_at}
        info |= {"ended_by_patience": patience.is_over}
        write_json(run / RUN_INFO, info)
        publish_run(run)
    return None


@contextmanager
def _no_training(observers: Sequence[Observer], pipeline: TrainPipelineSparseDist) -> Iterator[None]:
    """Within it the model can predict; the batches that are on their way to it stay there."""
    pipeline.detach()
    for one in observers:
        one.pause()
    yield
    for one in observers:
        one.resume()


def _check(
    observers: Sequence[Observer], checkpoints: Checkpoints, sharded: DistributedModelParallel, optimizer: Optimizer
) -> None:
    """Whether what was learnt may be kept."""
    for one in observers:
        one.before_saving()
    checkpoints.check(sharded, optimizer)


def _finish(observers: Sequence[Observer], checkpoints: Checkpoints, stopped: bool) -> None:
    checkpoints.close()
    for one in observers:
        one.finish(stopped)


def _tell_failure(observers: Sequence[Observer], kind: type[BaseException] | None, *_: object) -> None:
    if kind is not None:
        for one in observers:
            one.fail()


def _seed(seed: int, step: int, rank: int) -> None:
    """What is random in a step depends on these three alone, so a resumed training draws what it would have drawn."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))


def _run_info(
    sharded: DistributedModelParallel, encoder: RowEncoder, runtime: Runtime, step: int, seconds: float
) -> dict[str, Any]:
    dim = encoder.experiment.model.embedding_dim
    tables = {name: {"rows": rows, "dim": dim} for name, rows in encoder.layout.tables.items()}
    cells = sum(rows * dim for rows in encoder.layout.tables.values())
    dense = sum(p.numel() for name, p in sharded.named_parameters() if "embedding_bags" not in name)
    return {
        "parameters": cells + dense,
        "dense_parameters": dense,
        "tables": tables,
        "codes": [list(row) for row in code_rows(encoder.experiment)],
        "rows": sum(encoder.statistics.rows.values()),
        "labels": encoder.statistics.labels,
        "world_size": runtime.world_size,
        "device": str(runtime.device),
        "steps": step,
        "seconds": seconds,
        "plan": str(sharded.plan),
    }
