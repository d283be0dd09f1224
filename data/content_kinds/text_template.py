"""Texts of entities, rendered from the columns of their catalog."""

import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.column_types import TEXT, holds, in_words, is_list, plain_table
from ..errors import UserError, nearest


def render_texts(template: str, table: pa.Table, as_written: bool = False) -> pa.Array:
    """Fill a template with each row of a table.

    Numbers, dates and booleans are written out, lists joined by ``", "``, nulls left out; runs of whitespace and
    control characters become one space and the ends are stripped.

    Args:
        template: e.g. ``"{brand} {title}"``; ``{{`` and ``}}`` stand for braces. No conversions or format specs.
        table: rows with at least the columns named.
        as_written: leave whitespace as it is, as in names of files.

    Returns:
        large_string array, one text per row (large: all texts together may pass 2 GiB); null where every column named
        is null or blank, whatever else the template says.

    Raises:
        UserError: the template cannot be parsed, names a missing column, or one of a type that is no text.
    """
    pieces: list = []
    filled = None
    tidy = (lambda texts: texts) if as_written else _squeeze
    for literal, name in _parse_template(template):
        if literal:
            pieces.append(pa.scalar(literal, pa.large_string()))
        if name is None:
            continue
        if name not in table.column_names:
            raise UserError(
                f"text template {template!r}", f"no column '{name}' to fill it", nearest(name, table.column_names)
            )
        text = tidy(_as_text(plain_table(table.select([name]), keep_dictionaries=False)[name], name))
        pieces.append(text)
        has_text = pc.not_equal(text, "")
        filled = has_text if filled is None else pc.or_(filled, has_text)
    separator = pa.scalar("", pa.large_string())
    joined = tidy(pc.binary_join_element_wise(*pieces, separator))
    texts = pc.if_else(filled, joined, pa.scalar(None, pa.large_string()))
    return pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())


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
    """A column of plain type as large_string; "" where it is null."""
    if not holds(column.type, TEXT):
        what = f"is of type {column.type}; a text template takes {in_words(TEXT)}"
        raise UserError(f"catalog column '{name}'", what, "Cast it when writing the catalog, or leave it out.")
    if is_list(column.type):
        chunks = [_join_lists(chunk, name) for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.large_string())
    return pc.fill_null(_cast_text(column, name), "")


def _join_lists(lists: pa.Array, name: str) -> pa.Array:
    # binary_join gives null for a list with a null in it, so the lists are rebuilt without nulls.
    parents, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    valid = pc.is_valid(values)
    counts = np.bincount(parents.filter(valid).to_numpy(), minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    words = _cast_text(values.filter(valid), name).cast(pa.string())  # binary_join takes no large strings
    return pc.binary_join(pa.ListArray.from_arrays(offsets, words), ", ").cast(pa.large_string())


def _cast_text(values, name: str):
    try:
        return values.cast(pa.large_string())
    except pa.ArrowInvalid as error:  # bytes that are no UTF-8, an unknown time zone
        what = f"cannot be written out ({str(error).splitlines()[0]})"
        raise UserError(f"catalog column '{name}'", what, "Write it as strings.") from error


def _squeeze(texts):
    return pc.utf8_trim(pc.replace_substring_regex(texts, r"[\pZ\p{Cc}]+", " "), " ")
