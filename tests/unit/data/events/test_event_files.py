import gc
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.events.event_files import iterate_group, read_group

GROUPS, ROWS = 20, 20_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    where = tmp_path_factory.mktemp("events") / "part.parquet"
    values = np.random.default_rng(0).random(GROUPS * ROWS)
    pq.write_table(pa.table({"x": values}), where, row_group_size=ROWS)
    return str(where)


@pytest.mark.parametrize("how", ["whole", "piecewise"])
def test_what_was_read_of_a_row_group_is_let_go_of(path, how):
    gc.collect()  # of what other tests have left
    before, read = pa.total_allocated_bytes(), 0
    for group in range(GROUPS):
        if how == "whole":
            read += read_group(path, group, ["x"]).num_rows
        else:
            read += sum(table.num_rows for table in iterate_group(path, group, ["x"], 4096))
    assert read == GROUPS * ROWS
    deadline = time.monotonic() + 5  # Arrow's own threads let go of the last one a moment after it is read
    while pa.total_allocated_bytes() - before >= 8 * ROWS and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pa.total_allocated_bytes() - before < 8 * ROWS  # less than one row group
