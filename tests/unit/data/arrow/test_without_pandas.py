"""pandas is not imported for Arrow's sake; whoever imports it has it. In processes of their own: imports cannot be undone."""

import subprocess
import sys

AFTER = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from foundrank.data.arrow.without_pandas import leave_pandas_out

leave_pandas_out()
leave_pandas_out()
pc.fill_null(pa.array([1, None]), 0)
pa.table({"a": pa.array(np.array(["x", None], object)), "b": np.zeros(2)}).to_pylist()
assert "pandas" not in sys.modules
import pandas as pd

assert pa.array(pd.Series([1, 2])).to_pylist() == [1, 2]
frame = pd.DataFrame({"a": [1.5, None], "t": pd.to_datetime(["2026-01-01", None])})
table = pa.Table.from_pandas(frame)
assert [column.null_count for column in table] == [1, 1]
assert table.to_pandas().equals(frame)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)


def test_arrow_asks_for_pandas_once_and_pandas_still_has_arrow():
    python("-c", AFTER)


def test_arrow_with_pandas_that_is_there_stays_as_it_is():
    python(
        "-c",
        "import pandas as pd\n"
        + AFTER.split('assert "pandas"')[0]
        + "assert pa.array([pd.NaT], from_pandas=True).null_count == 1",
    )


def test_no_command_imports_pandas():
    # Values that modules make as they are imported would bring it.
    told = python("-X", "importtime", "-m", "foundrank.dist.cli", "schema").stderr
    assert "pyarrow.lib" in told
    assert "pandas.core" not in told
