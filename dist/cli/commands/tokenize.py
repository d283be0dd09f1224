"""``foundrank tokenize``."""

from functools import cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import hint
from ...quick_imports import quick_imports
from ...ranks.job import on_ranks
from ...ranks.statuses import DONE
from .job_command import begin, end, passed
from .options import LOCATION, Check, ExperimentPath, Overrides, Processes, loaded

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ....data.config.experiment import Experiment
    from ...ranks.runtime import Runtime


class _Tokenizing(NamedTuple):
    experiment: "Experiment"
    named: str
    rebuild: bool
    export: str | None


def tokenize(
    experiment: ExperimentPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="make all codes anew; runs trained with the old ones refuse the new")
    ] = False,
    export: Annotated[
        str | None, typer.Option(help="write the codes to this Parquet file, too: key and codes", **LOCATION)
    ] = None,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Give every item of the catalog its codes, semantic ids; run again, it tokenizes only what is new."""
    begin(__name__, "tokenize.tokenize", check, processes)

    @cache
    def resolve() -> _Tokenizing:
        prometheus.label(command="tokenize")  # what is wrong has them, too
        found = loaded(experiment, set_)
        return _Tokenizing(found, experiment, rebuild, export)

    def claim() -> Claim:
        return Claim(resolve().experiment.text.store, "tokenize")

    if check:
        from ...tokenize.check import checked_tokenizing

        return passed(checked_tokenizing(resolve().experiment, export, rebuild), claim())
    end(on_ranks(resolve, _tokenize, processes, holds=claim))


def _tokenize(job: _Tokenizing, runtime: "Runtime") -> int:
    with quick_imports():
        from ...tokenize.tokenize import tokenize as work

    work(job.experiment, runtime, job.rebuild, job.export)
    if runtime.is_main:
        hint(f"next: foundrank train {job.named}")
    return DONE
