"""Labels and vectors of events that nobody can learn from, found before any work starts."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import one_array
from ..arrow.values import vector_rows
from ..errors import UserError
from ..machine.limits import cpus
from ..storage.parquet_memory import check_footer
from .event_files import EventFiles, iterate_group, open_parquet, read_group

# Rows whose vectors are looked at before work starts: all of them would be most of what there is to read.
_CHECKED_ROWS, _CHECKED_ROWS_PER_FILE = 1 << 14, 1024
_CHECKED_AT_A_TIME = 8  # files


def check_values(files: EventFiles, needs: list[ColumnNeed]) -> None:
    """Looks at all values of columns whose needs have a remedy for bad ones: labels, and the true probabilities of simulations.

    Raises:
        UserError: the first bad one.
    """
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
    if pa.types.is_integer(kind) and (low, high) == (-np.inf, np.inf):
        return True
    if pa.types.is_boolean(kind):
        return low <= 0 and high >= 1
    if not pa.types.is_integer(kind) or statistics is None or not statistics.has_min_max:
        return False
    return low <= statistics.min and statistics.max <= high


def check_vectors(files: EventFiles, needs: list[ColumnNeed]) -> None:
    """Looks at lengths and values of vectors in the first rows of each file.

    Raises:
        UserError: one has another length, or holds no number.
    """
    most = max(_CHECKED_ROWS // len(files.files), _CHECKED_ROWS_PER_FILE)

    def check(file: str) -> None:
        for need in needs:
            for rows in islice(iterate_group(file, 0, [need.name], most), 1):
                vector_rows(rows[need.name], need.size, f"{file}: column '{need.name}', row group 0")

    with ThreadPoolExecutor(min(cpus(), _CHECKED_AT_A_TIME)) as pool:
        with_rows = (file for file, groups in zip(files.files, files.group_rows, strict=True) if groups)
        for _ in pool.map(check, with_rows):  # in order: of several mistakes the first is told
            pass
