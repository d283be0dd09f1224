"""Ids of an entity that a Parquet file lists."""

import numpy as np
from numpy.typing import NDArray

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import SCALAR_ID
from ..arrow.ids import id_keys
from ..config.sections.bad_data import BadDataConfig
from ..errors import UserError
from ..schema.column_needs import IdTypes
from ..schema.layout import id_key
from ..storage.globs import parquet_below
from .bad_rows import read_good_rows
from .event_files import check_columns, list_events


def listed_keys(
    source: str, where: str, entity: str, column: str, policy: BadDataConfig, types: IdTypes
) -> NDArray[np.uint64]:
    """Keys ``[N]`` uint64 of the ids in some files; null is none.

    Args:
        source: a Parquet file, a folder of them, or a glob, or a URI of such.
        where: what names it, for what is told.
        entity: whose ids they are.
        column: that holds them.
        policy: what bad rows mean.
        types: of the ids that are known.

    Raises:
        UserError: no such file, or one without the column, or with ids of another type; or there is no id in them.
    """
    need = ColumnNeed(column, SCALAR_ID, f"entities.{entity}.id", table=id_key(entity))
    files = check_columns(list_events(parquet_below(source), where, policy), [need], policy, types)
    tables = [read_good_rows(path, group, [need], [column], policy) for path, group in files.row_groups]
    parts = [id_keys(table[column]) for table in tables]
    keys = np.concatenate([np.zeros(0, np.uint64), *(found[valid] for found, valid in parts)])
    if not len(keys):
        raise UserError(f"{where} {source}", f"names no {entity}", "Give at least one, or leave it out.")
    return keys
