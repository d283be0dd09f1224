"""What several commands take."""

from typing import Annotated

import typer

# Paths or URIs, as strings: a Path would make one slash of two.
ExperimentPath = Annotated[str, typer.Argument(help="experiment YAML, or a folder with experiment.yaml in it")]
RunPath = Annotated[str, typer.Argument(help="run folder that `foundrank train` wrote")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="override a field, e.g. --set training.epochs=1; repeatable, or several in one: 'a=1; b=2'",
    ),
]
Processes = Annotated[
    int | None, typer.Option("--processes", "-p", min=1, help="ranks on this machine  [default: one per GPU, else 1]")
]
Check = Annotated[bool, typer.Option("--check", help="find what would go wrong, in seconds, and stop")]
Seed = Annotated[int, typer.Option(min=0, help="of everything random")]


def names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
