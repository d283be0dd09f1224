"""The files of a catalog: what can be known of them by their footers."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import ANYTHING, id_family, plain_type
from ..config.experiment import Experiment
from ..config.sections.entities import EntityConfig
from ..errors import UserError, one_line
from ..schema.column_needs import IdTypes, SchemaCheck, catalog_needs
from ..storage import storage
from ..storage.file_identity import identities
from ..storage.file_systems import told, trouble
from ..storage.globs import expand_glob, nothing_matches
from ..storage.parquet_memory import READ_ERRORS


def check_catalog(
    entity_name: str, entity: EntityConfig, columns: Sequence[str] | None = None, types: IdTypes | None = None
) -> list[tuple[str, pa.Schema]]:
    """Checks the columns of all files of an entity's catalog by their footers.

    Args:
        entity_name: name of the entity, for messages.
        entity: its config; ``entity.catalog`` must be set.
        columns: to look at besides the key; None for all that the entity needs.
        types: of ids, as far as they are known; what the catalog says is added.

    Returns:
        The files in order, at least one, and their schemas.

    Raises:
        UserError: no file matches, one is not Parquet, a column is missing, there twice or of a type that does not serve, or
            the types of one column in several files do not mix.
    """
    assert entity.catalog is not None
    needs = catalog_needs(entity_name, entity)
    if columns is not None:
        needs = [need for need in needs if need.name in {entity.catalog.key, *columns}]
        others = set(columns) - {need.name for need in needs}
        needs += [ColumnNeed(name, ANYTHING, f"entities.{entity_name}.catalog") for name in sorted(others)]
    check = SchemaCheck(needs, {} if types is None else types)
    found = []
    for file in catalog_files(entity_name, entity):
        try:
            schema = storage.parquet_file(file).schema_arrow
        except READ_ERRORS as error:
            raise unreadable(file, error) from error
        check.check(file, schema)
        found.append((file, schema))
    names = list(dict.fromkeys(need.name for need in needs))
    kinds = [[(name, plain_type(schema.field(name).type)) for name in names] for _, schema in found]
    with mixing(entity.catalog.path):
        pa.unify_schemas([pa.schema(of_file) for of_file in kinds], promote_options="permissive")
    return found


def known_id_types(experiment: Experiment, held: Mapping[str, str]) -> IdTypes:
    """What ids are, by a run and by the catalogs, whose columns are checked.

    Args:
        experiment: whose catalogs they are.
        held: embedding table -> what its ids are in the run; empty without one.

    Raises:
        UserError: as `check_catalog`; or a catalog's ids are not what they are in the run, or in another catalog.
    """
    types = {table: (family, "the run") for table, family in held.items()}
    for name, entity in experiment.entities.present().items():
        if entity.catalog is not None:
            check_catalog(name, entity, types=types)
    return types


def catalog_key_type(entity_name: str, entity: EntityConfig) -> pa.DataType:
    """The plain type that holds the keys of all files of a catalog: their own, where they have one."""
    assert entity.catalog is not None
    key = entity.catalog.key
    schemas = [schema for _, schema in check_catalog(entity_name, entity, [])]
    return pa.unify_schemas(
        [pa.schema([(key, plain_type(schema.field(key).type))]) for schema in schemas], promote_options="permissive"
    )[0].type


def catalog_fingerprint(entity_name: str, entity: EntityConfig) -> str:
    """Hex digest that changes when a catalog is rewritten with other content, and not when it is moved.

    It covers each file's name, size, Parquet footer and `identity` checksum.

    Raises:
        UserError: no file matches, or one is not Parquet.
    """
    assert entity.catalog is not None
    digest = hashlib.sha256()
    for file in catalog_files(entity_name, entity):
        with told(file), storage.open_input(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 8))
            tail = stream.read(8)
            if len(tail) < 8 or tail[4:] != b"PAR1":
                raise UserError(file, "not a Parquet file", "Write the catalog as Parquet.")
            footer = int.from_bytes(tail[:4], "little")
            stream.seek(max(0, size - 8 - footer))
            digest.update(f"{Path(file).name}\0{size}\0".encode() + stream.read(footer))
        digest.update(identities([file])[0]["checksum"].encode())
    return digest.hexdigest()


def key_type(schemas: Sequence[tuple[str, pa.Schema]], key: str) -> pa.DataType:
    """What holds the keys of all files; 64 bits without a sign where a file has them."""
    kinds = [plain_type(schema.field(key).type) for _, schema in schemas]
    if any(id_family(kind) == "string" for kind in kinds):
        return pa.string()
    return pa.uint64() if pa.uint64() in kinds else pa.int64()


@contextmanager
def mixing(pattern: str) -> Iterator[None]:
    """Tells types of several files that Arrow cannot bring together."""
    try:
        yield
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(
            pattern,
            f"its files hold one column with types that do not mix ({one_line(error)})",
            "Write all files of a catalog with one schema.",
        ) from error


def catalog_files(entity_name: str, entity: EntityConfig) -> list[str]:
    """Files of an entity's catalog, sorted.

    Raises:
        UserError: there is none.
    """
    assert entity.catalog is not None
    pattern = entity.catalog.path
    files = expand_glob(pattern)
    if not files:
        remedy = "Correct the path or pattern; it is relative to the experiment file."
        raise nothing_matches(pattern, f"entities.{entity_name}.catalog.path", remedy)
    return files


def unreadable(file: str, error: Exception) -> UserError:
    """What to say of a file that cannot be read."""
    what = f"not a readable Parquet file ({one_line(error)})"
    return trouble(file, error) or UserError(file, what, "Write the catalog as Parquet.")
