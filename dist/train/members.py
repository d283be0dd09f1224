"""Training the models of a run, one after the other."""

from collections.abc import Iterator

from ..logs.records import info
from ..ranks.runtime import Runtime
from ..run.kept_checkpoints import complete
from ..run.run_documents import RunInfo
from ..run.run_folder import RUN_INFO, read_json
from .prepare import TrainingJob


def members_to_train(job: TrainingJob, runtime: Runtime) -> Iterator[TrainingJob]:
    """The job of each of the models that are not finished, in turn. One of a run that has one model always comes: what is left to do
    of it, if anything, its checkpoints say.
    """
    models = job.experiment.seeds
    for number in range(models):
        of_member = job.of_member(number)
        folder = of_member.member_folder
        folder.mkdir(parents=True, exist_ok=True)
        if models == 1:
            yield of_member
            continue
        if runtime.on_main(lambda of_member=of_member: _is_finished(of_member)):
            continue
        if runtime.is_main:
            said = f"model {number + 1} of {models}, with seed {of_member.experiment.seed}"
            info(said, "model", model=number + 1, models=models, seed=of_member.experiment.seed)
        yield of_member


def _is_finished(job: TrainingJob) -> bool:
    """Whether a model's training has come to its end, and left the checkpoint of it."""
    folder = job.member_folder
    return read_json(folder / RUN_INFO, RunInfo, {}).get("steps") in complete(folder)
