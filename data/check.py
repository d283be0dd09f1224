"""Everything about the data that can be known to be wrong before any work starts."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from .columns import LABEL, is_string, needed_columns
from .errors import UserError
from .experiment import SPLITS, Experiment
from .parquet import EventFiles, check_columns, list_events, open_parquet, read_group


def check_events(experiment: Experiment, splits: Sequence[str] = SPLITS) -> dict[str, dict[str, EventFiles]]:
    """Checks the files, columns, types and labels of every domain.

    Returns:
        domain -> split -> its files, for the splits the domain has.

    Raises:
        UserError: a glob without a file, an unreadable file, a missing or mistyped column, a domain without
            training rows, or a label outside {0, 1}.
    """
    events: dict[str, dict[str, EventFiles]] = {}
    id_types: dict[str, tuple[bool, str]] = {}
    for name, domain in experiment.domains.items():
        events[name] = {}
        needs = needed_columns(experiment, name)
        for split in splits:
            pattern = getattr(domain.events, split)
            if pattern is None:
                continue
            field = f"domains.{name}.events.{split}"
            files = list_events(pattern, field)
            check_columns(files.files, needs)
            if split == "train" and files.rows == 0:
                raise UserError(
                    field,
                    f"the {len(files.files)} file(s) matching '{pattern}' hold no rows",
                    "Remove the domain or give it events.",
                )
            _check_labels(files, [need.name for need in needs if need.holds == LABEL], field)
            events[name][split] = files
        _check_id_types(experiment, events[name], id_types, name)
    return events


def _check_labels(files: EventFiles, columns: list[str], field: str) -> None:
    for file in files.files:
        metadata = open_parquet(file).metadata
        schema = open_parquet(file).schema_arrow
        position = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
        for group in range(metadata.num_row_groups):
            for column in columns:
                kind = schema.field(column).type
                if pa.types.is_boolean(kind) or pa.types.is_null(kind):
                    continue
                statistics = metadata.row_group(group).column(position[column]).statistics
                bounded = pa.types.is_integer(kind) and statistics is not None and statistics.has_min_max
                if bounded and statistics.min >= 0 and statistics.max <= 1:
                    continue  # integers between 0 and 1 are 0 and 1
                values = read_group(file, group, [column])[column].cast(pa.float64(), safe=False).to_numpy()
                bad = ~((values == 0) | (values == 1) | np.isnan(values))
                if bad.any():
                    row = int(np.argmax(bad))
                    raise UserError(
                        f"{file}: column '{column}', row {row} of row group {group}",
                        f"the label is {values[row]:g}",
                        "Labels are 0, 1 or null; turn others into one (for example rating >= 4) when writing the events.",
                    )


def _check_id_types(
    experiment: Experiment, splits: dict[str, EventFiles], seen: dict[str, tuple[bool, str]], domain: str
) -> None:
    """The same entity must have the same id type in every domain: 7 and '7' would be two ids."""
    for name, entity in experiment.entities.present().items():
        for files in splits.values():
            schema = open_parquet(files.files[0]).schema_arrow
            if entity.id not in schema.names or pa.types.is_null(schema.field(entity.id).type):
                continue
            kind = schema.field(entity.id).type
            integer = not is_string(kind)
            first, where = seen.setdefault(name, (integer, files.files[0]))
            if first != integer:
                raise UserError(
                    f"{files.files[0]}: column '{entity.id}'",
                    f"holds {kind}, but {where} holds the other kind of id for the same entity",
                    f"Write one type for entities.{name} in all domains (here: domain '{domain}').",
                )
