"""``foundrank update``."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ....data.errors import UserError
from ....data.storage.file_systems import is_uri
from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import hint, result
from ...quick_imports import quick_imports
from ...ranks.job import held, on_ranks
from ...ranks.statuses import DONE, TRY_AGAIN
from ..commands.job_command import begin, end, passed
from ..commands.options import Check, Overrides, Processes, RunPath

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ...increments.request import Next, Request
    from ...ranks.runtime import Runtime


def update(
    run: RunPath,
    events: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DOMAIN=]PATTERN",
            help="events, e.g. 'events/day=*/*.parquet': each day that is new is learned by itself; "
            "with {domain} in it for all domains, or repeatable",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="give the current version up where it scores lower on the new events than the one before, by more than this",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="newest versions kept, beside the run itself  [default: 2]")
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="instead: go back to the version that was current before")
    ] = False,
    follow: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="go on looking for new events, so often, until told to stop"),
    ] = None,
    forget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENTITY=FILES",
            help="instead: a version that knows nothing of the ids in Parquet files, e.g. user=gone.parquet; repeatable",
        ),
    ] = None,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Go on with a run from new events: measure it on them, learn them, and make the result the run's current version."""
    if rollback:
        if events or set_ or max_drop is not None or check or forget or follow or keep or processes:
            raise UserError("--rollback", "goes with no other option", "Update or go back, one after the other.")
        return _roll_back(run)
    if max_drop is not None and keep == 1:
        raise UserError("--keep 1", "removes the version before, with which --max-drop compares", "Keep two or more.")
    if forget and (events or set_ or max_drop is not None or follow or keep):
        remedy = "Forget and learn one after the other; no older version is kept."
        raise UserError("--forget", "goes with neither --events, --set, --max-drop, --keep nor --follow", remedy)
    if not events and not forget and (set_ or check or follow):
        raise UserError("--events", "is missing", "Name the new events, e.g. --events 'events/day=*/*.parquet'.")
    begin(__name__, "increments.learn", check, processes)

    def resolve() -> "tuple[Request, Next | None]":
        prometheus.label(command="update", run=str(run))  # what is wrong has them, too
        with quick_imports():
            from ....model.kinds import KINDS
            from ...increments.request import Request, next_increment
            from ...increments.watch import Watch

        request = Request(
            run=folder,
            events=tuple(events or ()),
            folder=os.getcwd(),
            changes=tuple(set_ or ()),
            kinds=KINDS,
            keep=keep or 2,
            max_drop=max_drop,
            forget=tuple(forget or ()),
            follow=follow,
        )
        return request, next_increment(request, None if follow is None or check else Watch())

    folder = run.rstrip("/") if is_uri(run) else os.path.realpath(run)
    claim = Claim(folder, "update")
    if check:
        _, job = resolve()
        told = ["nothing is left to learn, or to forget"]
        if job is not None:
            what = "ids are forgotten" if job.forgets else f"{job.told['rows']:,} rows"
            told = [f"increment {job.told['increment']}: {what}, for {job.told['base']}"]
        return passed(told, claim)
    end(on_ranks(resolve, _update, processes, holds=lambda: claim))


def _roll_back(run: str) -> None:
    with quick_imports():
        from ...promote.promote import roll_back

    with held(Claim(run, "update")):
        done = roll_back(run)
    result(f"{run}: back to {done.run}, from {done.before}", "rolled back", run=done.run, before=done.before)


def _update(asked: "tuple[Request, Next | None]", runtime: "Runtime") -> int:
    with quick_imports():
        from ...increments.learn import update as work

    request, job = asked
    done = work(request, job, runtime)
    if job is None and request.follow is None:
        if runtime.is_main:
            forgotten = "nothing to forget: nothing is known of any of these ids"
            said = forgotten if request.forget else "nothing new: all of these events have been learned from"
            result(said, "nothing new")
        return DONE
    if runtime.is_main and done:
        hint(f"next: foundrank score {request.run} NEW OUT, or evaluate it; it stands for its newest version")
    elif runtime.is_main:
        result("stopped, as requested; run the same command again to go on", "stopped", status=TRY_AGAIN)
    return DONE if done else TRY_AGAIN
