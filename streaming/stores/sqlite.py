"""Predictions in a SQLite file beside the driver: one machine, no server, readable by any process while the job writes.

One micro-batch is one transaction. Times are text, "2024-01-31T12:00:00.000000Z": people can read it and it sorts like
the times. `probability` is a JSON array. SQLite has no NaN (a NaN `prediction` is stored as NULL and read back as NaN) and
no negative zero (-0.0 is read back as 0.0).
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming.config.stores import SqliteSection
from streaming.errors import StoreError, StoreUnavailable
from streaming.records.predictions import NEWEST, STORED
from streaming.stores.base import LOOK_UP_S, doubles_of, doubles_text, iso_column, mismatches, storable, time_of

_COLUMNS: Final = tuple(STORED.fieldNames())
_TYPES: Final = {
    "key": ["TEXT"], "model": ["TEXT"], "event_time": ["TEXT"], "source_partition": ["INTEGER", "INT", "BIGINT"],
    "source_offset": ["INTEGER", "INT", "BIGINT"], "event_id": ["TEXT"], "model_version": ["TEXT"], "prediction": ["REAL", "DOUBLE"],
    "probability": ["TEXT"], "scored_at": ["TEXT"],
}  # fmt: skip
#: NULL in `prediction` is how SQLite writes NaN, so that column cannot be NOT NULL.
_NULLABLE: Final = ("prediction", "probability")
#: How long a write waits for another process's transaction. Ours take well under a second.
BUSY_S: Final = 30.0
#: What goes away by itself or when somebody makes room; everything else stays wrong until somebody changes the file.
_TRANSIENT: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL)


def open(section: SqliteSection, spark: SparkSession) -> SqliteStore:
    """The store that the configuration names. Touches nothing yet."""
    return SqliteStore(path=section.path, table=section.table)


@dataclass(frozen=True)
class SqliteStore:
    """A table in a SQLite file, written by the driver."""

    path: str
    table: str = "predictions"

    def prepare(self) -> None:
        """Create folder, file and table as needed; a table that is there must fit, and is never altered."""
        try:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            raise StoreError(f"{self.path}: cannot create the folder: {refused.strerror}; choose another store.path") from refused
        with suppress(OSError):  # SQLite says what is wrong; its files beside this one get the same mode
            os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY, 0o600))
        with self._connection(create=True) as connection:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StoreError(f"{self.path}: journal mode is {mode}, expected wal, which needs a local disk; choose another store.path")
            connection.execute(_create(self.table))
            wrong = _misfits(connection, self.table)
        if wrong:
            raise StoreError(
                f"{self.path}: table {self.table} does not fit:\n  "
                + "\n  ".join(wrong)
                + "\nrename or drop the table, or name another one in store.table"
            )

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Write the batch in one transaction, on disk when this returns (`synchronous=FULL`: one fsync per batch)."""
        table = storable(predictions).toArrow()
        with self._connection() as connection:
            # Before the first read: a transaction that starts by reading and then writes cannot wait for another writer.
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_upsert(self.table), chain.from_iterable(map(_values, table.to_batches())))
            connection.execute("COMMIT")

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity, models in name order."""
        with self._connection(busy_s=LOOK_UP_S) as connection:
            stored = connection.execute(f'SELECT {", ".join(_COLUMNS)} FROM "{self.table}" WHERE key = ?', (key,)).fetchall()
        return sorted((_row(values) for values in stored), key=lambda row: str(row["model"]))

    def count(self) -> int:
        """The number of rows that stand."""
        with self._connection() as connection:
            return int(connection.execute(f'SELECT count(*) FROM "{self.table}"').fetchone()[0])

    @contextmanager
    def _connection(self, *, create: bool = False, busy_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each call, so that threads never share one; the driver's errors become ours."""
        # Only prepare() may create the file: a write into a file that was deleted must not start an empty one unseen.
        uri = f"{Path(self.path).absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S if busy_s is None else busy_s, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                yield connection
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _TRANSIENT:
                raise StoreUnavailable(f"{self.path}: SQLite: {error}; free the file or the disk and start again") from error
            raise StoreError(f"{self.path}: table {self.table}: SQLite: {error}; check store.path and store.table") from error


def _create(table: str) -> str:
    columns = [f"{name} {types[0]}{'' if name in _NULLABLE else ' NOT NULL'}" for name, types in _TYPES.items()]
    return f'CREATE TABLE IF NOT EXISTS "{table}" ({", ".join(columns)}, PRIMARY KEY (key, model)) STRICT, WITHOUT ROWID'


def _upsert(table: str) -> str:
    """Newest wins, decided by the database: SQLite compares row values from left to right."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in ("key", "model"))
    new, old = (", ".join(f"{side}.{name}" for name in NEWEST) for side in ("excluded", f'"{table}"'))
    return (
        f'INSERT INTO "{table}" ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))}) '
        f"ON CONFLICT (key, model) DO UPDATE SET {changes} WHERE ({new}) > ({old})"
    )


def _misfits(connection: sqlite3.Connection, table: str) -> list[str]:
    """What keeps an existing table from being used, one line each; nothing when it fits."""
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ? COLLATE NOCASE", (table,)).fetchone()[0]
    if kind != "table":
        return [f"got a {kind}, expected a table"]
    columns = connection.execute('SELECT name, upper(type), "notnull", dflt_value FROM pragma_table_xinfo(?)', (table,)).fetchall()
    wrong = mismatches(_TYPES, {name: kind for name, kind, _, _ in columns})
    for name, _, required, default in columns:
        if required and name in _NULLABLE:
            wrong.append(f"column {name}: got NOT NULL, expected a nullable column")
        if required and default is None and name not in _COLUMNS:
            wrong.append(f"column {name}: an extra column must be nullable or have a default")
    indexes = connection.execute('SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (table,)).fetchall()
    keys = [{row[0] for row in connection.execute("SELECT name FROM pragma_index_info(?)", index)} for index in indexes]
    if {"key", "model"} not in keys:
        wrong.append("primary key: expected PRIMARY KEY (key, model), or a UNIQUE index over both")
    return wrong


def _values(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """The rows of an Arrow batch as SQLite takes them."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in ("event_time", "scored_at"):
        columns[name] = iso_column(columns[name])
    plain = {name: column.to_pylist() for name, column in columns.items()}
    plain["probability"] = [doubles_text(value) for value in plain["probability"]]
    return zip(*(plain[name] for name in _COLUMNS), strict=True)


def _row(values: tuple[Any, ...]) -> dict[str, object]:
    row = dict(zip(_COLUMNS, values, strict=True))
    row["prediction"] = math.nan if row["prediction"] is None else row["prediction"]
    return row | {
        "event_time": time_of(row["event_time"]),
        "scored_at": time_of(row["scored_at"]),
        "probability": doubles_of(row["probability"]),
    }
