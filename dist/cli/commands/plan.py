"""``foundrank plan``."""

from pathlib import Path
from typing import Annotated

import typer

from ....data.errors import UserError
from ...console import console
from ...ranks.statuses import FAULT
from .options import LOCAL, ExperimentPath, Overrides, loaded, names

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.


def plan(
    experiment: ExperimentPath,
    world_size: Annotated[int | None, typer.Option(min=1, help="ranks in all  [default: 1]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, a100-80, h100 or h200  [default: cpu]")] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="a YAML file or KEY=VALUE,KEY=VALUE: differences from the device's preset"),
    ] = None,
    rows: Annotated[
        str, typer.Option(help="rows of tables, in place of counting them, e.g. id_item=1e9,feature_brand=50000")
    ] = "",
    text_size: Annotated[int | None, typer.Option(min=1, help="width of text vectors not yet embedded")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file for tables and a heat map", **LOCAL)] = None,
    set_: Overrides = None,
) -> None:
    """Plan a training on a cluster you do not have: tables per rank, memory, step time, ranks needed.

    No table is allocated. Exit status 1 means that the training does not fit.
    """
    wanted = loaded(experiment, set_)
    from ...capacity.cluster import read_cluster
    from ...capacity.plan import plan as show

    on = read_cluster(cluster, world_size=world_size, device=device)
    if not show(wanted, on, _rows(rows), text_size, console(), report):
        raise typer.Exit(FAULT)


def _rows(text: str) -> dict[str, int]:
    out = {}
    for part in names(text):
        name, _, value = part.partition("=")
        try:
            out[name] = int(float(value))
        except ValueError as error:
            raise UserError(f"--rows {part}", "is not TABLE=ROWS", "Write e.g. --rows id_item=1000000000") from error
    return out
