"""Learning the increments of an update, one after the other."""

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from ...data.counting.statistics import Statistics
from ...data.events.event_files import look_again
from ...data.storage import storage
from ...data.storage.mirror import mirrored
from ...data.vocabulary.vocabulary import Vocabulary
from ..embed.embed import embed
from ..lease.lease import Claim
from ..logs.records import info, result, warning
from ..promote.promote import ITSELF, promote_inside, promotions, roll_back, way_back
from ..ranks.job import held
from ..ranks.preemption import Preemption
from ..ranks.runtime import Runtime, patiently
from ..run.kept_checkpoints import best_of_members
from ..run.new_run import Changed, create_run
from ..run.run_documents import Events
from ..run.run_folder import EVENTS, EXPERIMENT, open_run, open_statistics, read_json
from ..tokenize.tokenize import tokenize
from ..train.prepare import TrainingJob, begin_run, prepare
from ..train.train import train
from .delta import delta_folder, write_delta
from .forget import statistics_without
from .measure import measured
from .record import add_to_record, digest_of, read_increment, remove, remove_all_but, remove_rest, write_increment
from .request import Next, Request, next_increment
from .watch import Watch


def update(request: Request, first: Next | None, runtime: Runtime) -> bool:
    """Learns an increment, and what else was asked for; each is published as soon as it is learned. A collective.

    Args:
        request: what was asked for; where the events are followed, this ends when it is told to.
        first: what is learned first.
        runtime: the process group.

    Returns:
        Whether all is done; else it was asked to stop.

    Raises:
        UserError: bad events, or what a training raises. What was published stays, and the same command goes on.
    """
    watch = None if request.follow is None else Watch()
    runtime.on_main(lambda: _remove_what_is_forgotten(request))
    job = first if first is not None or watch is None else _next(request, runtime, watch)
    while job is not None:
        if not _learn(job, runtime):
            return False
        job = _next(request, runtime, watch)
    return True


def _next(request: Request, runtime: Runtime, watch: Watch | None) -> Next | None:
    """What is learned next; where the events are followed, once there is something."""

    def look() -> Next | None:
        told = False
        while True:
            look_again()
            if (found := next_increment(request, watch)) is not None or request.follow is None:
                return found
            if not told:
                info(f"nothing new; looks again every {request.follow:g} s")
            told = True
            time.sleep(request.follow)

    with patiently(runtime) as ranks:
        found = ranks.on_main(look)
    look_again()  # of what this rank has read in earlier increments
    return found


def _learn(job: Next, runtime: Runtime) -> bool:
    """One increment: the current version is measured on its rows first, then goes on with them; or, where something has changed
    meanwhile, nothing, so that the next look finds what there is then. Whether it was not asked to stop."""
    began, request = time.time(), job.request
    _add_vectors(job, runtime)
    before = {"score": None, "rows": []} if job.forgets else runtime.on_main(lambda: _measured_then(job))
    if before is None:
        before = measured(job.base, job.train, request.kinds, runtime)
        if request.max_drop is not None and _is_worse(job, before["score"], request.max_drop, runtime):
            return True  # the same events are next, for the version before
    told = job.told | {"before": before}
    with patiently(runtime) as ranks:
        training = begin_run(ranks.on_main(lambda: _prepared(job)), runtime)
    if not runtime.on_main(lambda: _is_as_told(job)):
        return True
    runtime.on_main(lambda: write_increment(job.folder, told))
    with Preemption(runtime) as preemption:
        if train(training, runtime, preemption) is not None:
            return False
        stopped = preemption.is_told()  # in its last step
    _publish(job, told, began, runtime)
    return not stopped


def _is_as_told(job: Next) -> bool:
    """Whether what is trained on is what is told of it: a file may have come, or been written again, since it was looked at."""
    if digest_of(read_json(job.folder / EVENTS, Events, {})) == job.told["digest"]:
        return True
    info(f"{job.told['run']}: its events have changed since they were looked at; they are looked at again")
    remove(job.folder)
    return False


def _remove_what_is_forgotten(request: Request) -> None:
    """Of versions that know what the current one has forgotten: a job that was killed may not have come to that."""
    versions = promotions(request.run)
    if versions and way_back(request.run) is None and versions[-1] != ITSELF:
        remove_all_but(request.here, {versions[-1]})


def _add_vectors(job: Next, runtime: Runtime) -> None:
    """Embeds texts of new catalog rows, and gives new items codes; the stores are this job's meanwhile."""
    if not job.experiment.stored() and not job.experiment.coded():
        return
    with ExitStack() as stack:
        runtime.on_main(lambda: stack.enter_context(held(Claim(job.experiment.text.store, "update"))))
        if job.experiment.stored():
            embed(job.experiment, runtime)
        if job.experiment.coded():
            tokenize(job.experiment, runtime)
        runtime.barrier()


def _measured_then(job: Next) -> dict[str, Any] | None:
    """What the current version is worth on the new rows, where a job that was killed has measured it."""
    then = read_increment(job.folder)
    same = then is not None and (then["base"], then["digest"]) == (job.told["base"], job.told["digest"])
    return then["before"] if then is not None and same else None


def _is_worse(job: Next, score: float | None, max_drop: float, runtime: Runtime) -> bool:
    """Whether the version before the current one does better on the new rows, by more than is allowed; it is the current one then."""
    run = job.request.run
    if (earlier := runtime.on_main(lambda: _version_before(job))) is None:
        return False
    before = measured(earlier, job.train, job.request.kinds, runtime)["score"]
    worse = runtime.on_main(lambda: score is not None and before is not None and score < before - max_drop)
    if worse:
        runtime.on_main(lambda: roll_back(run))
        if runtime.is_main:
            said = f"{job.told['base']} scores {score:.4f} on the new events, and {earlier} {before:.4f}: that one is the current version again"
            warning(said, "threshold")
    return worse


def _version_before(job: Next) -> str | None:
    """The version before the current one, its folder or its URI; None where there is none to go back to."""
    version = way_back(job.request.run)
    before = None if version is None else storage.resolved(version, str(job.request.run))
    return before if before is not None and storage.is_file(storage.join(before, EXPERIMENT)) else None


def _prepared(job: Next) -> TrainingJob:
    """The training of an increment; what was begun of it goes on, where nothing that it was begun with has changed."""
    remove_rest(job.folder)
    left = _left(job)

    def begun() -> TrainingJob:
        if left is not None and not (job.folder / EXPERIMENT).is_file():
            create_run(job.folder, job.experiment, left, {}, best_of_members(mirrored(job.base, "read")))
        return prepare(job.experiment, job.run, is_increment=True)

    try:
        return begun()
    except Changed as error:
        info(f"{job.told['run']} begins anew: {error.where} {error.what}", "increment", increment=job.told["increment"])
        remove(job.folder)
        return begun()


def _left(job: Next) -> Statistics | None:
    """What is known to a version that forgets; None of one that learns, and counts."""
    if not job.forgets:
        return None
    if (job.folder / EXPERIMENT).is_file():
        return open_statistics(job.folder, job.experiment)
    return statistics_without(job.request.forget, job.experiment, mirrored(job.base, "read"))


def _publish(job: Next, told: dict[str, Any], began: float, runtime: Runtime) -> None:
    """Makes an increment the current version, whole or not at all; a job that dies in it is made up for by the next one."""
    delta, base = delta_folder(job.request.here, told["increment"]), mirrored(job.base, "read")
    with patiently(runtime) as ranks:
        (then, before), (_, now) = (open_run(at, job.request.kinds) for at in (base, job.folder))
        alike = (
            then.seeds == job.experiment.seeds == 1 and then.training.half_tables == job.experiment.training.half_tables
        )
        if alike:  # else scorers load all of it
            write_delta((base, before), (job.folder, now), delta, ranks)
    runtime.on_main(lambda: _commit(job, told | {"ids": _ids(before, now), "seconds": time.time() - began}))


def _commit(job: Next, told: dict[str, Any]) -> None:
    run, here = job.request.run, job.request.here
    done: dict[str, Any] = told | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_increment(job.folder, done)
    promote_inside(run, told["run"], forgot=job.forgets)
    add_to_record(here, done)
    keep = 1 if job.forgets else job.request.keep  # the others know what this one has forgotten
    remove_all_but(here, set(promotions(run)[-keep:]))
    score = done["before"]["score"]
    of_before = "" if score is None else f"; the version before scored {score:.4f} on them"
    new, gone = (sum(of[what] for of in done["ids"].values()) for what in ("new", "given_up"))
    what = f"{gone:,} ids forgotten" if job.forgets else f"{told['rows']:,} rows{of_before}; {new:,} new ids"
    numbers = {"increment": told["increment"], "rows": told["rows"], "score": score, "new_ids": new, "given_up": gone}
    said = f"increment {told['increment']}: {what}; {run} is {told['run']} now"
    result(said, "updated", run=str(run), version=told["run"], **numbers)


def _ids(before: Statistics, now: Statistics) -> dict[str, dict[str, int]]:
    """Table of exact ids -> how many there are, are new, and have given their rows up."""
    found = {}
    for name, table in now.tables.items():
        was = before.tables.get(name)
        if isinstance(table, Vocabulary) and isinstance(was, Vocabulary):
            left, new = table.changed(was)
            found[name] = {"ids": len(table.keys), "new": len(new), "given_up": len(left)}
    return found
