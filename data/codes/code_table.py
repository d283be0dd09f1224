"""Codes as a Parquet table: what a code store is exported as, and how codes made elsewhere come in."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_types import is_list
from ..arrow.ids import id_keys
from ..errors import UserError, one_line
from ..storage import storage
from ..storage.file_systems import is_uri
from ..storage.mirror import stamp_of
from ..storage.parquet_memory import READ_ERRORS, check_size
from ..storage.storage import Stamp
from .code_store import open_codes

KEY, CODES = "key", "codes"
_REMEDY = "Write a column key, an item's id, and codes, a list of whole numbers."


def export_codes(folder: Path, out: str | Path) -> int:
    """Writes the codes of a store as a Parquet file with the columns `KEY` and `CODES`; how many rows.

    Raises:
        UserError: as `open_codes`, or the file cannot be written.
    """
    opened, _ = open_codes(folder)
    keys = pq.read_table(opened.index_file)
    rows, levels = opened.shape
    codes = opened.mapped().vectors.numpy().view(np.uint16)[keys["row"].to_numpy()]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), levels)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({KEY: keys["key"], CODES: lists.cast(pa.list_(pa.uint16()))}), sink, compression="zstd")
    storage.write(out, sink.getvalue().to_pybytes())
    return rows


def read_code_table(path: str, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys ``[C]`` uint64 and codes ``[C, M]`` int64 of a Parquet file.

    Args:
        path: of the file, or its URI.
        sizes: how many values each of the M levels has.

    Raises:
        UserError: no such file, another type, a null, a list of another length, a code that its level does not have, or a key twice.
    """
    local = None if is_uri(path) else Path(path)
    stamp = (0, 0) if local is None or not local.is_file() else stamp_of(local)
    return _read(path, tuple(sizes), stamp)


@lru_cache(maxsize=1)
def _read(path: str, sizes: Sequence[int], stamp: Stamp) -> tuple[np.ndarray, np.ndarray]:
    """As `read_code_table`, of a file that is as its stamp says."""
    content = storage.read(path)
    if content is None:
        raise UserError(path, "no such file", "Give the Parquet file with the codes.")
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as parquet:
            for name in (KEY, CODES):
                if name not in parquet.schema_arrow.names:
                    raise UserError(path, f"has no column '{name}'", _REMEDY)
            check_size(parquet, range(parquet.num_row_groups), [KEY, CODES], path)
            table = parquet.read([KEY, CODES])
    except READ_ERRORS as error:
        raise UserError(path, f"cannot be read as Parquet: {one_line(error)}", _REMEDY) from error
    keys, valid = id_keys(table[KEY])
    kind = table[CODES].type
    if not is_list(kind) or not pa.types.is_integer(kind.value_type):
        raise UserError(f"{path}: column '{CODES}'", f"is {kind}", _REMEDY)
    # What 63 bits do not hold becomes negative, and is refused as any other code outside its level.
    lists = table[CODES].cast(pa.list_(pa.int64()), safe=False).combine_chunks()
    lengths = lists.value_lengths().fill_null(-1).to_numpy()
    _refuse(path, ~valid, "has no key")
    _refuse(path, lengths != len(sizes), f"has not {len(sizes)} codes")
    flat = lists.flatten()
    codes = flat.fill_null(-1).to_numpy().reshape(-1, len(sizes))
    _refuse(
        path,
        ((codes < 0) | (codes >= np.array(sizes))).any(1),
        f"has a code outside its level ({', '.join(map(str, sizes))} values)",
    )
    _, first = np.unique(keys, return_index=True)
    again = np.ones(len(keys), bool)
    again[first] = False
    _refuse(path, again, "has the key of an earlier row")
    return keys, codes


def _refuse(path: str, bad: np.ndarray, what: str) -> None:
    if bad.any():
        raise UserError(path, f"row {int(np.flatnonzero(bad)[0])} (counting from 0) {what}", _REMEDY)
