"""Runs that earlier versions made: whether their weights mean today what they were trained as.

Before format 2 tables were pooled by mean, and what TorchRec made of that depended on the plan: right where all tables were
whole or all were cut by rows, divided twice by a list's length where the two met, not at all in grids. And ``gate: none`` took
lookups by their place, which is the plan's. The first cannot be mended, so it is refused; the second can, by name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.config.experiment import Experiment
from ...data.errors import UserError
from ...data.schema.layout import Layout, id_key
from ...data.storage.mirror import fetch

FORMAT = 2
"""Of the runs that this version makes."""

_BY_ROWS = ("row_wise", "table_row_wise")
_LINE = re.compile(r"^(\w+)\s*\|\s*(\w+)\s*\|\s*\w+\s*\|\s*\[([\d, ]*)\]\s*$", re.MULTILINE)
_REMEDY = "Train it again; docs/reference/advisories.md says which of its scores and evaluations were wrong."


def check_meaning(run: Path, info: Mapping[str, Any], checkpoints: Sequence[Path], experiment: Experiment) -> None:
    """Makes sure that a run's weights can be used as what they were trained as.

    Args:
        run: its folder.
        info: what its ``run.json`` holds; empty where there is none.
        checkpoints: folders of its complete checkpoints.
        experiment: the run's.

    Raises:
        UserError: a newer version made the run; or an older one, with a plan under which its lists meant something else, or
            that cannot be told.
    """
    made_as = info.get("format", 1)
    if made_as > FORMAT:
        raise UserError(run, f"is of format {made_as}, which a newer version made", "Use that version.")
    if made_as == FORMAT or not checkpoints:
        return
    kinds = {table: kind for table, (kind, _) in _plan(info).items()}
    if not kinds:
        _check_unfinished(run, checkpoints, experiment)
    by_rows = any(kind in _BY_ROWS for kind in kinds.values())
    for table in _tables_of_lists(experiment):
        kind = kinds.get(table, "table_wise")
        if kind in _BY_ROWS or (kind == "grid_shard") == by_rows:
            continue
        was = "divided by their lengths twice" if by_rows else "sums, not means"
        raise UserError(
            run,
            f"was trained by an older version, whose plan had {table} {kind.replace('_', '-')}"
            f"{' beside tables cut by rows' if by_rows else ''}: its lists were {was}",
            _REMEDY,
        )


def lookup_order(
    run: Path, info: Mapping[str, Any], checkpoints: Sequence[Path], experiment: Experiment, layout: Layout
) -> list[str] | None:
    """The keys of the lookups in the order that the weights of a run were trained for; None where that is today's.

    Arguments as of `check_meaning`, and the run's layout.

    Raises:
        UserError: the order cannot be told.
    """
    if info.get("format", 1) == FORMAT or experiment.model.gate.kind != "none" or not checkpoints:
        return None
    today = [key for table in layout.tables for key in layout.keys if layout.table_of[key] == table]
    plan = _plan(info)
    if not plan:
        if all(
            len(list(folder.glob("__*_*.distcp"))) == len(list(folder.glob("__0_*.distcp"))) for folder in checkpoints
        ):
            return None  # one rank, one order
        raise UserError(
            run,
            "was not finished by the older version that began it, and does not say in which order gate: none had its tables",
            _REMEDY,
        )
    if not {kind for kind, _ in plan.values()} <= {"table_wise", "column_wise", "row_wise"}:
        raise UserError(run, "was trained by an older version with gate: none and tables dealt to hosts", _REMEDY)
    then = list(dict.fromkeys(key for table in _tables_in_turn(plan) for key in today if layout.table_of[key] == table))
    return None if then == today else then


def _tables_in_turn(plan: Mapping[str, tuple[str, list[int]]]) -> Iterator[str]:
    """As TorchRec lays lookups side by side: kind after kind, and of tables that ranks hold, rank after rank."""
    for kind in dict.fromkeys(kind for kind, _ in plan.values()):
        tables = {table: ranks for table, (of, ranks) in plan.items() if of == kind}
        if kind == "row_wise":
            yield from tables
        else:
            for rank in sorted({rank for ranks in tables.values() for rank in ranks}):
                yield from (table for table, ranks in tables.items() if rank in ranks)


def _plan(info: Mapping[str, Any]) -> dict[str, tuple[str, list[int]]]:
    """Table -> kind of sharding and ranks, from the text that older versions kept; empty where there is none."""
    parts = str(info.get("plan", "")).split("\n\n")
    rows = _LINE.findall(parts[1]) if len(parts) > 1 else []
    return {table: (kind, [int(rank) for rank in ranks.split(",")]) for table, kind, ranks in rows}


def _check_unfinished(run: Path, checkpoints: Sequence[Path], experiment: Experiment) -> None:
    """Makes sure, by the pieces of its checkpoints, that a run without a plan had its tables whole or cut by columns.

    Raises:
        UserError: tables are cut by rows, which may have been a grid.
    """
    from .checkpoint_reader import saved_tensors  # it takes half a second to import, and is rarely needed

    for folder in checkpoints:
        fetch(folder)
        for name, tensor in saved_tensors(folder).items():
            cut = ".embedding_bags." in name and name.startswith("model.") and any(c.offsets[0] for c in tensor.chunks)
            if cut and list(_tables_of_lists(experiment)):
                raise UserError(
                    run,
                    "was not finished by the older version that began it, and does not say how its tables were cut by rows",
                    _REMEDY,
                )


def _tables_of_lists(experiment: Experiment) -> Iterator[str]:
    """Tables in which lists are looked up."""
    entities = experiment.entities.present()
    if experiment.entities.user.history is not None and not experiment.model.past:
        yield id_key("item")
    owners = (*entities.values(), *experiment.domains.values())
    for features in (*(owner.features for owner in owners), experiment.context):
        yield from (key for name, feature in features.items() for key in feature.inputs(name).lists)
