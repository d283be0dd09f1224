"""Catalogs: Parquet tables with one row per entity, and the texts rendered from them."""

import hashlib
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import UserError, nearest
from .experiment import EntityConfig
from .load import expand_glob


def read_catalog(entity_name: str, entity: EntityConfig, columns: Sequence[str]) -> pa.Table:
    """Read some columns of an entity's catalog, with its key checked.

    Args:
        entity_name: name of the entity, for messages.
        entity: its config; ``entity.catalog`` must be set.
        columns: catalog columns to read besides the key.

    Returns:
        Table whose first column is the key (``entity.catalog.key``; int64 or string, unique, no nulls), then
        ``columns`` in the given order, in whatever types the files hold.

    Raises:
        UserError: no file matches, a file is not Parquet, a column is missing, the files' types contradict each other,
            the key is neither integer nor string, a key is null or occurs twice, or there is no row.
    """
    assert entity.catalog is not None
    pattern, key = entity.catalog.path, entity.catalog.key
    names = list(dict.fromkeys([key, *columns]))
    files = _files(entity_name, pattern)
    parts = [_read_file(file, names, key) for file in files]
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(
            pattern,
            f"its files hold one column with types that do not mix ({_one_line(error)})",
            "Write all files of a catalog with one schema.",
        ) from error
    if table.num_rows == 0:
        raise UserError(pattern, f"the catalog of entities.{entity_name} has no row", "Write one row per entity.")
    _check_unique(table[key], key, files, [part.num_rows for part in parts])
    return table.combine_chunks()


def catalog_fingerprint(entity_name: str, entity: EntityConfig) -> str:
    """Hex digest that changes when a catalog is rewritten with other content, and not when it is moved.

    It covers each file's name, size and Parquet footer (rows, schema, statistics, offsets), so it costs no pass
    over the data.

    Raises:
        UserError: no file matches, or one is not Parquet.
    """
    assert entity.catalog is not None
    digest = hashlib.sha256()
    for file in _files(entity_name, entity.catalog.path):
        path = Path(file)
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - 8))
            tail = stream.read(8)
            if len(tail) < 8 or tail[4:] != b"PAR1":
                raise UserError(file, "not a Parquet file", "Write the catalog as Parquet.")
            footer = int.from_bytes(tail[:4], "little")
            stream.seek(max(0, size - 8 - footer))
            digest.update(f"{path.name}\0{size}\0".encode() + stream.read(footer))
    return digest.hexdigest()


def render_texts(template: str, table: pa.Table) -> pa.Array:
    """Fill a template with each row of a table.

    Numbers, dates and booleans are written out, lists joined by ``", "``, nulls left out; runs of whitespace and
    control characters become one space and the ends are stripped.

    Args:
        template: e.g. ``"{brand} {title}"``; ``{{`` and ``}}`` stand for braces. No conversions or format specs.
        table: rows with at least the columns named.

    Returns:
        large_string array, one text per row (large: all texts together may pass 2 GiB); null where every column named
        is null or blank, whatever else the template says.

    Raises:
        UserError: the template cannot be parsed, names a missing column, or one of a type that is no text.
    """
    pieces: list = []
    filled = None
    for literal, name in _parse_template(template):
        if literal:
            pieces.append(pa.scalar(literal, pa.large_string()))
        if name is None:
            continue
        if name not in table.column_names:
            raise UserError(
                f"text template {template!r}", f"no column '{name}' to fill it", nearest(name, table.column_names)
            )
        text = _as_text(table[name], name)
        pieces.append(text)
        has_text = pc.not_equal(text, "")
        filled = has_text if filled is None else pc.or_(filled, has_text)
    separator = pa.scalar("", pa.large_string())
    joined = _squeeze(pc.binary_join_element_wise(*pieces, separator))
    texts = pc.if_else(filled, joined, pa.scalar(None, pa.large_string()))
    return pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())


def _files(entity_name: str, pattern: str) -> list[str]:
    files = expand_glob(pattern)
    if not files:
        raise UserError(
            pattern,
            f"no file matches entities.{entity_name}.catalog.path",
            "Correct the path or pattern; it is relative to the experiment file.",
        )
    return files


def _read_file(file: str, names: list[str], key: str) -> pa.Table:
    try:
        with pq.ParquetFile(file) as parquet:
            held = parquet.schema_arrow.names
            for name in names:
                if name not in held:
                    raise UserError(file, f"no column '{name}'", nearest(name, held))
            table = parquet.read(columns=names).select(names)
    except pa.ArrowInvalid as error:
        raise UserError(
            file, f"not a readable Parquet file ({_one_line(error)})", "Write the catalog as Parquet."
        ) from error
    keys = _cast_key(table[key], file, key)
    if keys.null_count:
        row = pc.index(pc.is_null(keys), True).as_py()
        raise UserError(
            file,
            f"key column '{key}' is null in row {row} (counting from 0)",
            "Every row of a catalog needs its id: drop these rows, or fill it in.",
        )
    return table.set_column(0, key, keys)


def _cast_key(keys: pa.ChunkedArray, file: str, key: str) -> pa.ChunkedArray:
    type_ = keys.type.value_type if pa.types.is_dictionary(keys.type) else keys.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        wanted = pa.string()
    elif pa.types.is_integer(type_):
        wanted = pa.int64()
    else:
        raise UserError(
            file, f"key column '{key}' is of type {type_}", "Ids are integers or strings: cast the column to int64."
        )
    try:
        return keys.cast(type_).cast(wanted)
    except pa.ArrowInvalid as error:
        raise UserError(
            file, f"key column '{key}' does not fit {wanted} ({_one_line(error)})", "Use int64 or string ids."
        ) from error


def _check_unique(keys: pa.ChunkedArray, key: str, files: list[str], lengths: list[int]) -> None:
    counts = pc.value_counts(keys)
    twice = pc.greater(counts.field("counts"), 1)
    if not pc.any(twice).as_py():
        return
    value = counts.field("values").filter(twice)[0]
    rows = np.flatnonzero(pc.equal(keys, value).to_numpy())[:2]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owners = np.searchsorted(starts, rows, side="right") - 1
    first, second = (int(row - starts[owner]) for row, owner in zip(rows, owners, strict=True))
    if owners[0] == owners[1]:
        place = f"rows {first} and {second}"
    else:
        place = f"row {first} and in row {second} of {Path(files[owners[1]]).name}"
    raise UserError(
        files[owners[0]],
        f"key {value.as_py()!r} of column '{key}' is in {place} (counting from 0);"
        f" {pc.sum(twice).as_py():,} key(s) occur more than once",
        "A catalog has one row per key: drop the duplicates.",
    )


def _parse_template(template: str) -> list[tuple[str, str | None]]:
    """(literal before, column name or None) pairs."""
    where = f"text template {template!r}"
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            where, f"cannot be read: {error}", 'Name columns in braces, e.g. "{brand} {title}"; write {{ for a brace.'
        ) from error
    for _, name, spec, conversion in parsed:
        if name == "":
            raise UserError(where, "has empty braces", 'Name a column in them, e.g. "{title}".')
        if spec or conversion:
            raise UserError(
                where, f"'{name}' has a conversion or format after it", f"Write only the column's name: {{{name}}}."
            )
    if all(name is None for _, name, _, _ in parsed):
        raise UserError(where, "names no column", 'Write e.g. "{title}".')
    return [(literal, name) for literal, name, _, _ in parsed]


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as squeezed large_string; "" where it is null or blank."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        chunks = [_join_lists(chunk, name) for chunk in column.chunks]
        return _squeeze(pa.chunked_array(chunks, pa.large_string()))
    return _squeeze(pc.fill_null(_cast_text(column, name), ""))


def _join_lists(lists: pa.Array, name: str) -> pa.Array:
    # binary_join gives null for a list with a null in it, so the lists are rebuilt without nulls.
    parents, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    valid = pc.is_valid(values)
    counts = np.bincount(parents.filter(valid).to_numpy(), minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    words = _cast_text(values.filter(valid), name).cast(pa.string())  # binary_join takes no large strings
    return pc.binary_join(pa.ListArray.from_arrays(offsets, words), ", ").cast(pa.large_string())


def _cast_text(values, name: str):
    try:
        return values.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UserError(
            f"catalog column '{name}'",
            f"is of type {values.type}, which is no text",
            "A text template takes strings, numbers, dates, booleans and flat lists of them.",
        ) from error


def _squeeze(texts):
    return pc.utf8_trim(pc.replace_substring_regex(texts, r"[\pZ\p{Cc}]+", " "), " ")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
