"""Everything about the data that can be known to be wrong before any work starts."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import VECTOR, is_unsigned, one_array
from ..arrow.values import vector_rows
from ..catalogs.catalog_files import known_id_types
from ..config.experiment import Experiment
from ..config.sections.domains import SPLITS
from ..errors import UserError
from ..schema.column_needs import needed_columns
from ..storage.parquet_memory import check_footer
from .event_files import EventFiles, check_columns, iterate_group, list_events, open_parquet, read_group

# Rows whose vectors are looked at before work starts: all of them would be most of what there is to read.
_CHECKED_ROWS, _CHECKED_ROWS_PER_FILE = 1 << 14, 1024
_CHECKED_AT_A_TIME = 8  # files


def check_events(
    experiment: Experiment,
    splits: Sequence[str] = SPLITS,
    values: bool = True,
    held: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, EventFiles]]:
    """Checks the files, columns, types, labels and vectors of every domain, and the columns of the catalogs.

    Args:
        experiment: whose events they are.
        splits: which of them.
        values: whether labels and vectors are looked at too, which takes time.
        held: embedding table -> what its ids are, of the run that reads the events; `Statistics.id_types`.

    Returns:
        domain -> split -> its files, for the splits the domain has.

    Raises:
        UserError: a glob without a file, an unreadable file, a missing or mistyped column, a domain without
            training rows, a label outside {0, 1}, or ids of one entity that are integers here and strings there.
    """
    events: dict[str, dict[str, EventFiles]] = {}
    policy = experiment.bad_data
    types = known_id_types(experiment, held)
    for name, domain in experiment.domains.items():
        events[name] = {}
        needs = needed_columns(experiment, name)
        for split in splits:
            pattern = getattr(domain.events, split)
            if pattern is None:
                continue
            field = f"domains.{name}.events.{split}"
            files = check_columns(list_events(pattern, field, policy), needs, policy, types)
            if split == "train" and files.rows == 0:
                raise UserError(
                    field,
                    f"the {len(files.files)} file(s) matching '{pattern}' hold no rows",
                    "Remove the domain or give it events.",
                )
            if values and not policy.skips:
                _check_values(files, needs)
                _check_vectors(files, [need for need in needs if need.holds == VECTOR])
            events[name][split] = files
    return events


def id_types(experiment: Experiment, train: Mapping[str, EventFiles]) -> dict[str, str]:
    """Embedding table -> ``string`` or ``integer``, what its ids are in training events and catalogs; not where all are null."""
    types = known_id_types(experiment, {})
    for name, files in train.items():
        check_columns(files, needed_columns(experiment, name, with_labels=False), experiment.bad_data, types)
    return {table: family for table, (family, _) in types.items()}


def unsigned_ids(experiment: Experiment, train: Mapping[str, EventFiles]) -> list[str]:
    """Embedding tables whose ids are integers of 64 bits without a sign in some file of the training events."""
    found = set()
    for name, files in train.items():
        tables = {need.name: need.table for need in needed_columns(experiment, name, with_labels=False) if need.table}
        for file in files.files:
            schema = open_parquet(file).schema_arrow
            found |= {table for column, table in tables.items() if is_unsigned(schema.field(column).type)}
    return sorted(found)


def _check_values(files: EventFiles, needs: list[ColumnNeed]) -> None:
    """All values of columns whose needs have a remedy for bad ones: labels, and the true probabilities of simulations."""
    needs = [need for need in needs if need.bad is not None and need.bad.remedy]
    for file in files.files:
        metadata = open_parquet(file).metadata
        check_footer(metadata, file)
        schema = open_parquet(file).schema_arrow
        position = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
        for group in range(metadata.num_row_groups):
            for need in needs:
                statistics = metadata.row_group(group).column(position[need.name]).statistics
                if _surely_good(need, schema.field(need.name).type, statistics):
                    continue
                values = one_array(read_group(file, group, [need.name])[need.name])
                if need.bad is not None and (bad := need.bad.find(values)) is not None:
                    row = int(np.argmax(bad))
                    raise UserError(
                        f"{file}: column '{need.name}', row {row} of row group {group}",
                        f"the {need.holds} is {values[row].as_py():g}",
                        need.bad.remedy,
                    )


def _surely_good(need: ColumnNeed, kind: pa.DataType, statistics: pq.Statistics | None) -> bool:
    """Whether type and statistics of a column say that no value of it is bad."""
    if pa.types.is_null(kind):
        return True
    if need.bad is None or need.bad.between is None:
        return False
    low, high = need.bad.between
    if pa.types.is_boolean(kind):
        return low <= 0 and high >= 1
    if not pa.types.is_integer(kind) or statistics is None or not statistics.has_min_max:
        return False
    return low <= statistics.min and statistics.max <= high


def _check_vectors(files: EventFiles, needs: list[ColumnNeed]) -> None:
    """Lengths and values in the first rows of each file."""
    most = max(_CHECKED_ROWS // len(files.files), _CHECKED_ROWS_PER_FILE)

    def check(file: str) -> None:
        for need in needs:
            for rows in islice(iterate_group(file, 0, [need.name], most), 1):
                vector_rows(rows[need.name], need.size, f"{file}: column '{need.name}', row group 0")

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _CHECKED_AT_A_TIME)) as pool:
        with_rows = (file for file, groups in zip(files.files, files.group_rows, strict=True) if groups)
        for _ in pool.map(check, with_rows):  # in order: of several mistakes the first is told
            pass
