"""Which distinct inputs of an encoder a catalog holds, texts above all, and which row of a store each one has.

Digests of the inputs are sorted and joined by SQLite, in a temporary file: memory stays the same from a thousand to a
hundred million.
"""

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.ids import id_keys
from ..catalogs.catalog import read_catalog, scan_catalog
from ..content_kinds.content import DIGEST_BYTES, Missing
from ..errors import UserError
from .catalog_inputs import CatalogInputs

_CACHE_KIB = 16_384  # of pages that SQLite keeps in memory, and of what it sorts at once
_BLOCK = 1 << 14


class InputSurvey:
    """The inputs of one content, as a catalog has them, and the rows of its store.

    Attributes:
        keys: of the catalog that have one.
        rows: of the store, one per distinct input; those it had already come first.
        unused: rows whose input no key has any more.
        missing: inputs that the catalog names and that cannot be had.
    """

    def __init__(self, inputs: CatalogInputs, missing: Missing, database: sqlite3.Connection):
        self._inputs, self.missing, self._database = inputs, missing, database
        self.keys = self._count("SELECT COUNT(digest) FROM catalog")
        self.rows = self.unused = 0

    def number_rows(self, held: Iterable[np.ndarray], window: int) -> None:
        """Gives every distinct input a row: first those a store has, then the others by first appearance.

        Within a window of so many the longest come first, so that neighbours are of similar length.

        Args:
            held: ``[n, 16]`` uint8 blocks, digests of the rows there are.
            window: inputs that are sorted together.
        """
        run = self._database.execute
        run("CREATE TABLE store (row INTEGER PRIMARY KEY, digest BLOB, position INTEGER)")  # rows from 1
        for block in held:
            self._database.executemany("INSERT INTO store (digest) VALUES (?)", ((d.tobytes(),) for d in block))
        run("CREATE TABLE texts (digest BLOB PRIMARY KEY, position INTEGER, length INTEGER) WITHOUT ROWID")
        run(
            "INSERT INTO texts SELECT digest, MIN(position), length FROM catalog WHERE digest IS NOT NULL GROUP BY digest"
        )
        run("UPDATE store SET position = (SELECT position FROM texts WHERE texts.digest = store.digest)")
        run(
            "INSERT INTO store (digest, position) SELECT digest, position FROM (SELECT texts.*,"
            " (ROW_NUMBER() OVER (ORDER BY position) - 1) / ? AS window"
            " FROM texts WHERE digest NOT IN (SELECT digest FROM store))"
            " ORDER BY window, length DESC, position",
            (window,),
        )
        run("CREATE INDEX row_of_digest ON store (digest)")
        self.rows = self._count("SELECT COUNT(*) FROM store")
        self.unused = self._count("SELECT COUNT(*) FROM store WHERE position IS NULL")

    def read_rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of the store's rows: ``[n, 16]`` uint8 digests of their inputs, and ``[n]`` int64 position of each
        one's first appearance in the catalog; -1 where it has gone."""
        cursor = self._database.execute("SELECT digest, COALESCE(position, -1) FROM store ORDER BY row")
        while block := cursor.fetchmany(_BLOCK):
            digests = np.frombuffer(b"".join(digest for digest, _ in block), np.uint8)
            yield digests.reshape(-1, DIGEST_BYTES), np.array([position for _, position in block], np.int64)

    def read_index(self) -> Iterator[pa.Table]:
        """Blocks of the keys that have an input, in the catalog's order, and the row of each: ``key``, ``row``."""
        cursor = self._database.execute(
            "SELECT store.row - 1 FROM catalog LEFT JOIN store USING (digest) ORDER BY catalog.position"
        )
        for piece in scan_catalog(self._inputs.of.entity, self._inputs.entity, []):
            rows = pa.array([row for (row,) in cursor.fetchmany(piece.table.num_rows)], pa.int64())
            if len(rows) != piece.table.num_rows:
                raise UserError(piece.file, "was changed while it was read", "Run the command again.")
            yield pa.table({"key": piece.table.column(0), "row": rows}).filter(rows.is_valid())

    def sample(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """``[min(size, distinct inputs)]`` int64 ascending positions of evenly spaced distinct inputs, and ``[..., 16]`` uint8 digests."""
        cursor = self._database.execute(
            "SELECT position, digest FROM (SELECT position, digest, ROW_NUMBER() OVER (ORDER BY position) AS number,"
            " COUNT(*) OVER () AS texts FROM texts)"
            " WHERE number * ?1 / texts > (number - 1) * ?1 / texts ORDER BY position",
            (size,),
        )
        found = cursor.fetchall()
        digests = np.frombuffer(b"".join(digest for _, digest in found), np.uint8).reshape(-1, DIGEST_BYTES)
        return np.array([position for position, _ in found], np.int64), digests

    def _count(self, query: str) -> int:
        return self._database.execute(query).fetchone()[0]


@contextmanager
def survey_inputs(inputs: CatalogInputs, folder: Path) -> Iterator[InputSurvey]:
    """Reads a catalog once and notes the distinct inputs of a content, in a temporary file that goes with the survey.

    Args:
        inputs: the content, as its catalog has it.
        folder: an existing folder for the temporary file: about 100 bytes a row.

    Raises:
        UserError: a bad catalog, a key that occurs twice, a text that is not UTF-8, or nothing at all.
        OSError: the folder's disk is full or cannot be written.
    """
    with _database(folder) as database:
        survey = InputSurvey(inputs, _note_inputs(inputs, database), database)
        inputs.check_any(survey.keys, survey.missing)
        if not survey.keys:
            assert inputs.entity.catalog is not None
            raise UserError(
                f"{inputs.place}: {inputs.content.template!r}",
                f"every row of {inputs.entity.catalog.path} is empty there",
                f"Name columns that hold something, or remove `{inputs.place.rpartition('.')[2]}`.",
            )
        yield survey


def _note_inputs(source: CatalogInputs, database: sqlite3.Connection) -> Missing:
    missing = Missing()
    database.execute("CREATE TABLE catalog (position INTEGER PRIMARY KEY, hash INTEGER, digest BLOB, length INTEGER)")
    for piece, inputs in source.scan():
        keys = piece.table.column(0)
        digests = source.content.digests(inputs, missing)
        hashes, keyed = id_keys(keys)
        positions = range(piece.position, piece.position + len(inputs))
        lengths = pc.binary_length(inputs).to_pylist()
        notes = zip(positions, hashes.view(np.int64).tolist(), digests, lengths, strict=True)
        if not keyed.all():  # these rows are skipped
            notes = (note if has else (note[0], None, None, None) for note, has in zip(notes, keyed, strict=True))
        database.executemany("INSERT INTO catalog VALUES (?, ?, ?, ?)", notes)
    # Hashes are short and of one type; where two agree, the keys themselves are compared.
    entity = source.entity
    assert entity.catalog is not None
    if database.execute("SELECT 1 FROM catalog GROUP BY hash HAVING COUNT(*) > 1 OR hash IS NULL LIMIT 1").fetchone():
        read_catalog(source.of.entity, entity, [])
        if entity.catalog.policy.skips:  # a key's first row is the one that counts
            firsts = "SELECT MIN(position) FROM catalog GROUP BY hash"
            database.execute(f"UPDATE catalog SET digest = NULL WHERE position NOT IN ({firsts})")
    return missing


@contextmanager
def _database(folder: Path) -> Iterator[sqlite3.Connection]:
    """A database in a file that has no name and is gone when it is closed, or when the process dies."""
    quoted = str(folder).replace("'", "''")
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("BEGIN")
        yield database
    except sqlite3.Error as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, f"{error} in a temporary file", str(folder)) from error
    finally:
        database.close()
