"""The alignment: candidates, rewards, the fine-tuning, and what it has changed; each stage goes on where it was stopped."""

import gc
from functools import partial
from pathlib import Path
from typing import Any

from ...data.storage.mirror import mirrored
from ..logs import prometheus
from ..ranks.preemption import Preemption
from ..ranks.runtime import Runtime, patiently
from ..run.kept_checkpoints import complete
from ..run.run_folder import ALIGNMENT, write_json
from ..train.prepare import prepare
from ..train.train import train
from .finding import find
from .measured import measured
from .request import AFTER, BEFORE, TRAIN, AlignJob
from .rewarding import reward


def align(job: AlignJob, runtime: Runtime) -> dict[str, Any] | int:
    """Aligns a run with a reward, into a run of its own; `prepare.prepare_alignment` has made the job. A collective.

    One model is in memory at a time: what the reference says of candidates, and what the reward does, is read from their files.

    Returns:
        What ``alignment.json`` holds; or the step after which it was asked to stop, with a checkpoint.

    Raises:
        UserError: bad data, a damaged checkpoint, or a folder that holds another alignment.
    """
    prometheus.label(command="align", run=str(job.out))
    runtime.on_main(lambda: _note(job))
    find(job, job.run, job.folder, (TRAIN, BEFORE), runtime)
    gc.collect()
    reward(job, (TRAIN, BEFORE), runtime)
    gc.collect()
    if (stopped_after := _fine_tuned(job, runtime)) is not None:
        return stopped_after
    gc.collect()
    find(job, job.out, mirrored(job.out, "read"), (AFTER,), runtime)
    gc.collect()
    reward(job, (AFTER,), runtime)
    with patiently(runtime) as ranks:
        return ranks.on_main(partial(_written, job))


def _fine_tuned(job: AlignJob, runtime: Runtime) -> int | None:
    """As of `train`; also where it was asked to stop after the last step. What comes before and after needs no step to end well: there a
    signal ends the process, and what is written is kept."""
    with Preemption(runtime) as preemption:
        with patiently(runtime) as ranks:
            training = ranks.on_main(lambda: prepare(job.experiment, job.out))
        stopped_after = train(training, runtime, preemption)
        if stopped_after is None and preemption.is_told():
            return runtime.on_main(lambda: max(complete(mirrored(job.out, "read"))))
    return stopped_after


def _note(job: AlignJob) -> None:
    """Says which alignment the folder is of, before anything else is in it."""
    job.note.parent.mkdir(parents=True, exist_ok=True)
    write_json(job.note, job.settings())


def _written(job: AlignJob) -> dict[str, Any]:
    spec, grouping = job.reward, job.grouping
    told = {"run": str(job.run), "reward": spec.name, "weights": dict(spec.weights), "split": job.split}
    told |= {"candidates": grouping.size, "pool": grouping.pool, "temperature": grouping.temperature}
    told |= {"measures": measured([job.out], job.generator, list(job.files(BEFORE)))}
    write_json(Path(job.out) / ALIGNMENT, told)
    return told
