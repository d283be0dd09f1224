"""``foundrank promote``."""

from typing import Annotated

import typer

from ....data.errors import UserError
from ...lease.lease import Claim
from ...logs.records import result
from ...ranks.job import held
from ..commands.options import LOCATION

# Imported where it is used, for start-up time: --help and mistakes are answered before torch is there.


def promote(
    run: Annotated[str | None, typer.Argument(help="run folder that `foundrank train` wrote", **LOCATION)] = None,
    target: Annotated[
        str | None,
        typer.Argument(help="folder that stands for the current run; other commands take it as a run", **LOCATION),
    ] = None,
    rollback: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="instead: go back to the run that was current before", **LOCATION),
    ] = None,
) -> None:
    """Make a run the current one, at once; or go back to the one before."""
    if (rollback is None) == (run is None or target is None) or (rollback is not None and run is not None):
        raise UserError("foundrank promote", "takes RUN and TARGET, or --rollback TARGET", "Give one or the other.")
    from ...promote.promote import promote as make_current
    from ...promote.promote import roll_back

    if rollback is not None:
        with held(Claim(rollback, "promote")):
            done = roll_back(rollback)
        result(f"{rollback}: back to {done.run}, from {done.before}", "rolled back", run=done.run, before=done.before)
    else:
        assert run is not None
        assert target is not None
        with held(Claim(target, "promote")):
            done = make_current(run, target)
        said = f"is {done.run}" + (f", after {done.before}" if done.before else "") if done.changed else "is so already"
        result(f"{target}: the current run {said}", "promoted", run=done.run, before=done.before, changed=done.changed)
