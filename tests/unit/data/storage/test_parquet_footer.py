import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.parquet_footer import values_of_chunks
from foundrank.data.storage.parquet_memory import READ_ERRORS, check_footer

TABLE = pa.table(
    {
        "id": pa.array([1, 2, None, 4] * 50),
        "words": pa.array(["a", None, "b" * 40, ""] * 50),
        "past": pa.array([[1, 2], None, [], [3]] * 50, pa.list_(pa.int64())),
        "deep": pa.array([[[1.0], []], None, [None], []] * 50, pa.list_(pa.list_(pa.float64()))),
        "pair": pa.array([{"x": 1, "y": "z"}, None, {"x": None, "y": ""}, None] * 50),
        "yes": pa.array([True, False, None, True] * 50),
    }
)


@pytest.mark.parametrize("options", [{}, {"version": "1.0"}, {"write_page_index": True}, {"write_statistics": False}])
@pytest.mark.parametrize("group", [7, 200])
def test_as_pyarrow_counts_them(tmp_path: Path, options: dict[str, object], group: int):
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=group, **options)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    wanted = [
        [metadata.row_group(at).column(position).num_values for position in range(metadata.num_columns)]
        for at in range(metadata.num_row_groups)
    ]
    assert values_of_chunks(metadata) == wanted


def test_a_damaged_footer_is_told_and_never_ends_the_process(tmp_path: Path):
    path, draw, told = tmp_path / "a.parquet", random.Random(0), 0
    pq.write_table(TABLE, path)
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    for _ in range(400):
        content = bytearray(whole)
        content[draw.randrange(len(whole) - 8 - footer, len(whole) - 8)] = draw.randrange(256)
        path.write_bytes(content)
        try:
            metadata = pq.read_metadata(path)
            check_footer(metadata, path)
            for at in range(metadata.num_row_groups):
                for position in range(metadata.num_columns):
                    metadata.row_group(at).column(position)
        except (UserError, *READ_ERRORS):
            told += 1
    assert told > 100
