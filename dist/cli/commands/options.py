"""What several commands take."""

from typing import Annotated, Any, Literal

import typer

from ....data.config.experiment import Experiment
from ....data.config.load import load_experiment
from ....data.storage.file_systems import local_path, refuse_secrets
from ...quick_imports import quick_imports


def location(text: str) -> str:
    """A path or a URI, as it is.

    Raises:
        UserError: it holds a password, or is nearly a URI.
    """
    refuse_secrets(text, "the command line")
    return text


# Arguments that are paths or URIs, as strings, for a Path would make one slash of two; and those that are paths alone.
LOCATION: dict[str, Any] = {"parser": location}
LOCAL: dict[str, Any] = {"parser": local_path}
ExperimentPath = Annotated[
    str, typer.Argument(help="experiment YAML, or a folder with experiment.yaml in it", **LOCATION)
]
RunPath = Annotated[str, typer.Argument(help="run folder that `foundrank train` wrote", **LOCATION)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="override a field, e.g. --set training.epochs=1; repeatable, or several at once: 'a=1; b=2'",
    ),
]
Processes = Annotated[
    int | None, typer.Option("--processes", "-p", min=1, help="ranks on this machine  [default: one per GPU, else 1]")
]
Check = Annotated[bool, typer.Option("--check", help="look for whatever would make the job fail, in seconds, and stop")]
Cluster = Annotated[
    str | None,
    typer.Option(help="with --check: the cluster it will run on, as for `foundrank plan`  [default: this machine]"),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="replace what the folder holds; that stays until the new result is whole"),
]
Against = Annotated[
    str | None,
    typer.Option(
        help="folder of a result, or its _summary.json, to compare means with  [default: the result overwritten]",
        **LOCATION,
    ),
]
MaxNullShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="leave with status 3 where a larger share of the rows has no score"),
]
MaxMeanShift = Annotated[
    float | None,
    typer.Option(min=0, help="leave with status 3 where the mean of a task's scores has moved further"),
]
Repeat = Annotated[
    bool | None,
    typer.Option(
        "--repeat/--no-repeat", help="whether past items take part, too  [default: the run's model.next_item.repeat]"
    ),
]
Negatives = Annotated[
    int,
    typer.Option(
        min=0,
        help="rank the next item among so many others, drawn at random, in place of all; comparable with no other number",
    ),
]
OneDomain = Annotated[
    str | None, typer.Option("--domain", help="this domain alone, the next item among its items  [default: all]")
]
Width = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="find items by so many leading numbers of their vectors, one of model.next_item.widths  [default: all]",
    ),
]
Diversity = Annotated[
    Literal["mmr", "dpp"] | None,
    typer.Option(
        help="lists that are not of one kind, chosen from the best items  [default: the best, by their scores]"
    ),
]
DiversityWeight = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="with --diversity: from 0, relevance alone, to 1, diversity alone"),
]
Pool = Annotated[
    int | None,
    typer.Option(min=1, help="with --diversity: of how many of the best items  [default: 5 times those of a list]"),
]
AlikeBy = Annotated[
    str | None,
    typer.Option(
        metavar="CONTENT",
        help="content of items that says how alike they are  [default: the vectors, or codes, that the run finds them by]",
    ),
]
Slices = Annotated[
    str, typer.Option("--slices", help="columns of the events by whose values rows are measured apart, comma-separated")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="seed of everything random")]


def names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def loaded(experiment: str, set_: list[str] | None) -> Experiment:
    """The experiment that a command was given.

    Raises:
        UserError: as `load_experiment`.
    """
    with quick_imports():
        from ....model.kinds import KINDS  # brings torch, without which the command line answers --help

    return load_experiment(experiment, set_ or [], kinds=KINDS)
