"""Which distinct texts a catalog holds and where, and reading some of them back, in bounded memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .catalog import read_catalog, scan_catalog
from .errors import UserError
from .experiment import EntityConfig
from .ids import id_keys
from .text_store import DIGEST_BYTES
from .text_template import render_texts


@dataclass(frozen=True)
class CatalogTexts:
    """The texts of a catalog by their digests; the texts themselves stay in its files.

    Attributes:
        keys: ``[K]`` int64 or string, the keys that have a text, in the catalog's order.
        text_of_key: ``[K]`` int64, each one's distinct text.
        digests: ``[N, 16]`` uint8, BLAKE2b of each distinct text, in order of first appearance.
        positions: ``[N]`` int64, catalog row of each one's first appearance, counted over all files.
        lengths: ``[N]`` int32, bytes of each.
    """

    keys: pa.Array
    text_of_key: np.ndarray
    digests: np.ndarray
    positions: np.ndarray
    lengths: np.ndarray


def survey_texts(name: str, entity: EntityConfig) -> CatalogTexts:
    """Reads a catalog once and notes its distinct texts; about 100 bytes a row, whatever the texts' lengths.

    Raises:
        UserError: a bad catalog, a key that occurs twice, a text that is not UTF-8, or no text at all.
    """
    assert entity.catalog is not None
    key, start = entity.catalog.key, 0
    keys: list[pa.Array] = []
    hashes, digests, positions, lengths = [], [], [], []
    for file, at, table in scan_catalog(name, entity, entity.text_columns):
        texts = _render(entity, table, file, at)
        present = texts.is_valid()
        column = table[key].combine_chunks()
        _check_same_type(column, keys, file, key)
        hashes.append(id_keys(column)[0])
        keys.append(column.filter(present))
        held = texts.filter(present)
        digests.append(b"".join(_digest(text) for text in held.cast(pa.large_binary()).to_pylist()))
        positions.append(start + np.flatnonzero(present.to_numpy(zero_copy_only=False)))
        lengths.append(pc.binary_length(held).to_numpy().astype(np.int32))
        start += table.num_rows
    if not sum(map(len, keys)):
        raise UserError(
            f"entities.{name}.text: {entity.text!r}",
            f"every row of {entity.catalog.path} is empty there",
            "Name columns that hold text, or remove `text`.",
        )
    _check_unique(hashes, name, entity)
    content = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    digests.clear()
    text_of_key, first = _distinct(content)
    return CatalogTexts(
        keys=pa.concat_arrays(keys),
        text_of_key=text_of_key,
        digests=content[first].view(np.uint8),
        positions=np.concatenate(positions)[first],
        lengths=np.concatenate(lengths)[first],
    )


def read_texts(name: str, entity: EntityConfig, positions: np.ndarray) -> Iterator[tuple[slice, list[str]]]:
    """Reads the texts at some rows of a catalog, in order.

    Args:
        name: name of the entity.
        entity: its config.
        positions: ``[M]`` int64 ascending catalog rows that have a text.

    Yields:
        Which of the positions, and their texts.
    """
    start = 0
    for file, at, table in scan_catalog(name, entity, entity.text_columns):
        low, high = np.searchsorted(positions, [start, start + table.num_rows])
        if low < high:
            picked = table.take(pa.array(positions[low:high] - start))
            yield slice(int(low), int(high)), _render(entity, picked, file, at).to_pylist()
        start += table.num_rows
        if high == len(positions):
            return


def as_digest_array(content: bytes) -> pa.Array:
    """``[N]`` fixed-size binary array over the bytes of N digests."""
    return pa.Array.from_buffers(pa.binary(DIGEST_BYTES), len(content) // DIGEST_BYTES, [None, pa.py_buffer(content)])


def _check_unique(hashes: list[np.ndarray], name: str, entity: EntityConfig) -> None:
    """Sorting hashes takes a third of the memory of counting keys; where two agree, the keys themselves are compared."""
    in_order = np.concatenate(hashes)
    hashes.clear()
    in_order.sort()
    if (in_order[1:] == in_order[:-1]).any():
        read_catalog(name, entity, [])


def _distinct(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[K]`` number of each row's value, in order of first appearance, and ``[N]`` the first row of each value."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: the first row of a value comes first
    begins = np.ones(len(order), bool)
    for half in (0, 1):
        values = digests[order, half]
        begins[1:] &= values[1:] == values[:-1]
    begins[1:] = ~begins[1:]
    first = order[begins]
    by_appearance = np.argsort(first)
    number = np.empty(len(first), np.int64)
    number[by_appearance] = np.arange(len(first))
    of_row = np.empty(len(order), np.int64)
    of_row[order] = number[np.cumsum(begins) - 1]
    return of_row, first[by_appearance]


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


def _render(entity: EntityConfig, table: pa.Table, file: str, start: int) -> pa.Array:
    assert entity.text is not None
    for column in dict.fromkeys(entity.text_columns):
        _check_utf8(table[column], column, file, start)
    return render_texts(entity.text, table)


def _check_utf8(column: pa.ChunkedArray, name: str, file: str, start: int) -> None:
    """Parquet calls a column text without looking; Arrow's string functions stop at bytes that are none."""
    try:
        column.validate(full=True)
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        row = next(i for i, value in enumerate(column) if not _is_utf8(value))
        raise UserError(
            file,
            f"column '{name}' is not UTF-8 in row {start + row} (counting from 0)",
            "Decode it with the encoding it was written in, and write the catalog again.",
        ) from error


def _is_utf8(value: pa.Scalar) -> bool:
    try:
        value.as_py()
        if isinstance(value, pa.BinaryScalar) and value.is_valid:
            value.as_buffer().to_pybytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_same_type(keys: pa.Array, before: list[pa.Array], file: str, key: str) -> None:
    if before and before[-1].type != keys.type:
        raise UserError(
            file,
            f"key column '{key}' is {keys.type} here and {before[-1].type} in the files before",
            "Write all files of a catalog with one schema.",
        )
