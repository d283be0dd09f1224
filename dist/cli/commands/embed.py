"""``foundrank embed``."""

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
from .options import Check, ExperimentPath, Overrides, Processes, loaded

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ....data.config.experiment import Experiment
    from ...ranks.runtime import Runtime


class _Embedding(NamedTuple):
    experiment: "Experiment"
    named: str
    rebuild: bool


def embed(
    experiment: ExperimentPath,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="build the stores again, for another encoder or template")
    ] = False,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Embed the contents of every catalog, texts and pictures, with frozen encoders; run again, it embeds only what is new."""
    begin(__name__, "embed.embed", check, processes)

    @cache
    def resolve() -> _Embedding:
        prometheus.label(command="embed")  # what is wrong has them, too
        return _Embedding(loaded(experiment, set_), experiment, rebuild)

    def claim() -> Claim:
        return Claim(resolve().experiment.text.store, "embed")

    if check:
        from ...capacity.preflight import check_embedding

        return passed(check_embedding(resolve().experiment), claim())
    end(on_ranks(resolve, _embed, processes, holds=claim))


def _embed(job: _Embedding, runtime: "Runtime") -> int:
    with quick_imports():
        from ...embed.embed import embed as work

    work(job.experiment, runtime, rebuild=job.rebuild)
    if runtime.is_main:
        hint(f"next: foundrank {'tokenize' if job.experiment.coded() else 'train'} {job.named}")
    return DONE
