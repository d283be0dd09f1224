"""What ``foundrank COMMAND`` can do: its commands and their options."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from ...data.storage.mirror import mirrored, shown
from ..console import console
from ..lease.lease import BESIDE_TRAINING, Claim
from ..logs.settings import check_settings
from ..ranks.job import held
from . import quiet  # noqa: F401
from .commands.embed import embed
from .commands.evaluate import evaluate
from .commands.options import LOCAL, ExperimentPath, Overrides, RunPath, Seed, loaded, names
from .commands.plan import plan
from .commands.recommend import recommend
from .commands.score import score
from .commands.telling import debuggable, telling
from .commands.tokenize import tokenize
from .commands.train import train
from .compare import compare
from .count import count
from .import_data import import_data
from .manifest import manifest
from .tune import tune
from .versions.align import align
from .versions.promote import promote
from .versions.update import update

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(import_data, name="import")


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"foundrank {version('foundrank')}")
        raise typer.Exit


@app.callback()
def foundrank(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """One model for all your search and recommendation domains, trained on TorchRec."""
    check_settings()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="where the runs go", **LOCAL)] = Path("runs/demo"),
    rows: Annotated[int, typer.Option(min=20_000, help="events to simulate")] = 600_000,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="ranks")] = 2,
) -> None:
    """Run the whole path on simulated data: embed, pretrain, fine-tune for a new domain, evaluate, score."""
    from .demo import run_demo

    run_demo(out, rows, processes, console())


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="new folder for events, catalogs and experiment.yaml", **LOCAL)],
    rows: Annotated[
        int | None,
        typer.Option(
            min=10_000, help="events, all domains together; of a platform 600,000, of a market 200,000, of days 300,000"
        ),
    ] = None,
    seed: Seed = 2026,
    world: Annotated[
        str | None,
        typer.Option(
            help="platform (default): seven domains, texts, cold items, clicks; market: every kind of label; days: items and users come and go, tastes move"
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(min=4, help="of the world days: how many, 30 unless given")] = None,
) -> None:
    """Simulate logs whose truth is known."""
    from ...data.simulation.worlds import simulate as write

    with held(Claim(out, "simulate")):
        path = write(out, rows, seed, world, days)
    print(f"wrote {path}\nnext: foundrank {'train' if world == 'market' else 'embed'} {path}")


@app.command()
@telling
def describe(experiment: ExperimentPath, set_: Overrides = None) -> None:
    """Show rows, rates and tables of the data and the model, per domain."""
    from ..capacity.describe import describe as show

    show(loaded(experiment, set_), console())


@app.command()
def config(experiment: ExperimentPath, set_: Overrides = None) -> None:
    """Print an experiment, or a run's, with all defaults, and where each value comes from."""
    from ...data.config.load import load_written, plain
    from ...model.kinds import KINDS  # brings torch, without which the command line answers --help
    from ..report.config_page import config_page

    resolved, written = load_written(experiment, set_ or [], kinds=KINDS)
    print(config_page(plain(resolved), written.source))


for job in (embed, tokenize, count, train, update, evaluate, compare, score, recommend, align):
    app.command()(telling(debuggable(job)))


@app.command()
@telling
def study(
    out: Annotated[Path, typer.Argument(help="folder for data and runs; run again to resume the study", **LOCAL)],
    data: Annotated[Path | None, typer.Option(help="folder with the public data sets' folders", **LOCAL)] = None,
    only: Annotated[str, typer.Option(help="data sets to measure, comma-separated  [default: all]")] = "",
    seeds: Annotated[int, typer.Option(min=2, help="seeds of the headline comparisons; ablations have three")] = 5,
    processes: Annotated[
        int, typer.Option("--processes", "-p", min=1, help="trainings at a time, one thread each")
    ] = 2,
    full: Annotated[bool, typer.Option("--full", help="all rows of the data sets; takes an OUT of its own")] = False,
    doc: Annotated[Path, typer.Option(help="Markdown file of the report", **LOCAL)] = Path("docs/results/study.md"),
) -> None:
    """Compare variants of the model on new items and a new domain, over seeds, with intervals; takes hours.

    Once the full model has all its seeds, what OUT holds of a data set is kept as study/NAME.json beside the report, in place of what
    was measured of it before. The report is of all data sets that have such a file, so they can be measured on different days and machines.
    """
    from ..study.study import run_study

    with held(Claim(out, "study")):
        run_study(out, data, names(only), seeds, processes, full, doc)
    print(f"wrote {doc}")


app.command()(telling(tune))
app.command()(plan)
# What it does not know is an option of the command that it is for, which looks at it.
app.command(context_settings={"ignore_unknown_options": True})(manifest)
app.command()(promote)


@app.command()
def report(run: RunPath) -> None:
    """Write a run's report.html again."""
    from ..promote.promote import current_run
    from ..report.report import write_report
    from ..run.run_folder import check_open_to_write, open_experiment

    run = str(current_run(run))
    folder = mirrored(run, "read")
    open_experiment(folder)
    check_open_to_write(folder)
    with held(Claim(run, "report", BESIDE_TRAINING)):
        print(shown(write_report(folder)))


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="print docs/reference/experiment.md instead")] = False,
) -> None:
    """Print the JSON Schema of an experiment, for your editor."""
    from ...data.config.kinds import experiment_type
    from ...model.kinds import KINDS  # brings torch, without which the command line answers --help
    from .schema_docs import experiment_reference

    print(experiment_reference(KINDS) if markdown else json.dumps(experiment_type(KINDS).model_json_schema(), indent=1))
