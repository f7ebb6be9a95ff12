"""Predictions in a PostgreSQL table: each partition of a micro-batch is one binary COPY and one INSERT … ON CONFLICT.

What PostgreSQL cannot hold is written reversibly, so that no row stops the lane for ever and :meth:`PostgresStore.get`
gives back exactly what came in. Text: NUL becomes "␀" (and a real "␀" or "␛" gets a "␛" before it). A key of more than
2,000 UTF-8 bytes, or 2,500 after that, does not fit into an index page: its first 200 characters, "…" and its SHA-256 stand for it.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from pyspark.sql import DataFrame, SparkSession

from streaming.config.stores import PostgresSection
from streaming.errors import StoreError, StoreUnavailable
from streaming.records.predictions import NEWEST, STORED
from streaming.secrets import redact
from streaming.stores.base import LOOK_UP_S, mismatches
from streaming.stores.write_partitions import write_partitions

_COLUMNS: Final = tuple(STORED.fieldNames())
_TYPES: Final = {
    "key": ["text"], "model": ["text"], "event_time": ["timestamp with time zone"], "source_partition": ["integer"], "source_offset": ["bigint"],
    "event_id": ["text"], "model_version": ["text"], "prediction": ["double precision"], "probability": ["double precision[]"],
    "scored_at": ["timestamp with time zone"],
}  # fmt: skip
_TEXTS: Final = ("key", "model", "event_id", "model_version")
#: COPY sends a timestamptz as the microseconds since 2000-01-01 in eight bytes, just as it sends a bigint.
_COPY: Final = {
    "text": "text",
    "timestamp with time zone": "int8",
    "integer": "int4",
    "bigint": "int8",
    "double precision": "float8",
    "double precision[]": "float8[]",
}
_EPOCH_US: Final = 946_684_800_000_000
#: An index entry holds at most 2,704 bytes; the model's name (100) and the headers need some of them.
_KEY_BYTES: Final = 2_000
#: The same after escaping, which may triple it.
_TEXT_BYTES: Final = 2_500
#: Unless the address says otherwise. A machine that is gone says nothing, not even no: without keepalives a batch would wait two hours
#: for its answer, and the lane would look as if it ran. So it is known after 25 seconds.
_PATIENCE: Final = {
    "connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "25000",
}  # fmt: skip
#: SQLSTATE classes that a replay may cure: connection, rollback (deadlock), resources, locks, operator, I/O; 25006 is a
#: server that is a read-only standby just now.
_TRANSIENT: Final = ("08", "40", "53", "55", "57", "58", "25006")


def open(section: PostgresSection, spark: SparkSession) -> PostgresStore:
    """The store that the configuration names. Does not connect yet."""
    return PostgresStore(dsn=section.dsn.get_secret_value(), table=section.table)


@dataclass(frozen=True)
class PostgresStore:
    """A PostgreSQL table, written by the executors."""

    dsn: str = field(repr=False)
    table: str = "predictions"

    def prepare(self) -> None:
        """Create the table if it is missing (never a schema); a table that is there must fit, and is never altered."""
        with _connection(self.dsn, starting=True) as connection:
            if _oid(connection, self.table) is None:
                try:
                    connection.execute(_create(self.table))
                except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
                    pass  # another job creates it at this very moment: then look at what it made
                except psycopg.errors.InvalidSchemaName as missing:
                    schema = self.table.partition(".")[0]
                    raise StoreError(f"{_place(self.dsn)}: schema {schema} does not exist; create it: CREATE SCHEMA {schema}") from missing
            wrong = _misfits(connection, self.table)
        if wrong:
            lines = "\n  ".join(wrong)
            raise StoreError(
                f"{_place(self.dsn)}: table {self.table} does not fit:\n  {lines}\nrename or change the table, or name another one in store.table"
            )

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Write each partition in one transaction; all are committed when this returns."""
        write_partitions(predictions, partial(_write, self.dsn, self.table))

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity, models in name order."""
        query = sql.SQL("SELECT {} FROM {} WHERE key = {}").format(_names(), _identifier(self.table), sql.Literal(_stored(key)))
        with _connection(self.dsn) as connection, _given_up_after(connection, LOOK_UP_S + 1.0):
            connection.execute(f"SET TIME ZONE 'UTC'; SET statement_timeout = '{LOOK_UP_S:.0f}s'")
            stored = [dict(zip(_COLUMNS, values, strict=True)) for values in connection.execute(query)]
        rows = [row | {name: _untext(row[name]) for name in _TEXTS} | {"key": key} for row in stored]
        return sorted(rows, key=lambda row: str(row["model"]))

    def count(self) -> int:
        """The number of rows that stand."""
        with _connection(self.dsn) as connection:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_identifier(self.table))).fetchone()
        return int(row[0]) if row else 0


def _write(dsn: str, table: str, batches: Iterator[pa.RecordBatch]) -> int:
    """One partition, one transaction: COPY all of it into a temporary table, then let the database decide what is newer."""
    written = 0
    with _connection(dsn) as connection, connection.transaction(), connection.cursor() as cursor:
        incoming = sql.Identifier("incoming_predictions")
        cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(incoming, _definitions()))
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(incoming, _names())) as copy:
            copy.set_types([_COPY[types[0]] for types in _TYPES.values()])
            for batch in batches:
                for row in _values(batch):
                    copy.write_row(row)
                written += batch.num_rows
        cursor.execute(_upsert(table, incoming))
    return written


def _upsert(table: str, incoming: sql.Identifier) -> sql.Composed:
    """Newest wins, decided under the row's lock. In key order, so that two writers lock rows in the same order."""
    changes = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _COLUMNS if name not in ("key", "model")
    )
    new, old = (sql.SQL(", ").join(sql.Identifier(side, name) for name in NEWEST) for side in ("excluded", "stored"))
    return sql.SQL(
        'INSERT INTO {table} AS stored ({names}) SELECT {names} FROM {incoming} ORDER BY key COLLATE "C", model COLLATE "C" '
        "ON CONFLICT (key, model) DO UPDATE SET {changes} WHERE ({new}) > ({old})"
    ).format(table=_identifier(table), names=_names(), incoming=incoming, changes=changes, new=new, old=old)


def _create(table: str) -> sql.Composed:
    # Every batch rewrites rows: room on each page lets PostgreSQL do so without touching the index (HOT).
    return sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (key, model)) WITH (fillfactor = 75)").format(
        _identifier(table), _definitions()
    )


def _definitions() -> sql.Composed:
    required = {field.name: "" if field.nullable else " NOT NULL" for field in STORED.fields}
    return sql.SQL(", ").join(sql.SQL("{} " + types[0] + required[name]).format(sql.Identifier(name)) for name, types in _TYPES.items())


def _names() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def _oid(connection: psycopg.Connection[Any], table: str) -> int | None:
    row = connection.execute("SELECT to_regclass(%s)::oid::bigint", (_identifier(table).as_string(connection),)).fetchone()
    return None if row is None else row[0]


def _misfits(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """What keeps an existing table from being used, one line each; nothing when it fits."""
    oid = _oid(connection, table)
    kind = connection.execute("SELECT relkind::text FROM pg_class WHERE oid = %s", (oid,)).fetchone()
    if kind is None or kind[0] not in ("r", "p"):
        return ["got a view or another relation, expected a table"]
    columns = connection.execute(
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef AND attidentity = '' "
        "FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
        (oid,),
    ).fetchall()
    wrong = mismatches(_TYPES, {name: kind for name, kind, _ in columns})
    wrong += [
        f"column {name}: an extra column must be nullable or have a default"
        for name, _, required in columns
        if required and name not in _COLUMNS
    ]
    wrong += [
        f"column {name}: got NOT NULL, expected a nullable column" for name, _, required in columns if required and name == "probability"
    ]
    keys = connection.execute(
        "SELECT array_agg(attname::text ORDER BY attname) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
        "WHERE indrelid = %s AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL GROUP BY indexrelid",
        (oid,),
    ).fetchall()
    if ["key", "model"] not in [names for (names,) in keys]:
        wrong.append("primary key: expected PRIMARY KEY (key, model), or a UNIQUE index over both")
    rights = connection.execute(
        "SELECT has_table_privilege(%(t)s::oid, 'SELECT'), has_table_privilege(%(t)s::oid, 'INSERT'), has_table_privilege(%(t)s::oid, 'UPDATE'), "
        "has_database_privilege(current_database(), 'TEMPORARY')",
        {"t": oid},
    ).fetchone()
    missing = [
        right for right, held in zip(("SELECT", "INSERT", "UPDATE", "TEMPORARY on the database"), rights or (), strict=True) if not held
    ]
    return wrong + [f"privileges: missing {', '.join(missing)}; GRANT them to the user of store.dsn"] * bool(missing)


def _values(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """The rows of an Arrow batch as the binary COPY takes them."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in ("event_time", "scored_at"):
        columns[name] = pc.subtract(columns[name].cast(pa.int64()), _EPOCH_US)
    plain = {name: column.to_pylist() for name, column in columns.items()}
    for name in _TEXTS:
        if name == "key" and pc.max(pc.binary_length(columns[name])).as_py() >= _SHORTENED_BYTES:
            plain[name] = [_stored(key) for key in plain[name]]
        elif pc.any(pc.match_substring_regex(columns[name], _ESCAPED.pattern)).as_py():
            plain[name] = [_text(value) for value in plain[name]]
    return zip(*(plain[name] for name in _COLUMNS), strict=True)


_SHORTENED: Final = re.compile("…[0-9a-f]{64}$")
#: A shortened key is at least this long: its head, "…", its SHA-256.
_SHORTENED_BYTES: Final = 200 + 3 + 64
_ESCAPED: Final = re.compile("[\x00␀␛]")


def _text(value: str) -> str:
    """The text with NUL as "␀"; reversed by :func:`_untext`."""
    return _ESCAPED.sub(lambda match: "␀" if match[0] == "\x00" else f"␛{match[0]}", value)


def _untext(value: str) -> str:
    return re.sub("␛(.)|␀", lambda match: match[1] or "\x00", value)


def _stored(key: str) -> str:
    """The key as text, or what stands for one that is too long for the index: no two keys have the same."""
    text, data = _text(key), key.encode()
    # Escaping makes a key longer. And a key that only looks like a shortened one must not be taken for the other.
    if len(data) <= _KEY_BYTES and len(text.encode()) <= _TEXT_BYTES and not _SHORTENED.search(text):
        return text
    return f"{_text(key[:200])}…{hashlib.sha256(data).hexdigest()}"


@contextmanager
def _given_up_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """End the connection when the block takes longer: a server that hangs enforces no timeout of its own."""

    def hang_up() -> None:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _place(dsn: str) -> str:
    """Where the database is, without user and password."""
    parts = conninfo_to_dict(dsn)
    return f"PostgreSQL {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


@contextmanager
def _connection(dsn: str, *, starting: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """A connection in autocommit mode; the driver's errors become ours."""
    try:
        place = _place(dsn)
        said = conninfo_to_dict(dsn)
        conninfo = make_conninfo(dsn, **{name: value for name, value in _PATIENCE.items() if name not in said})
    except psycopg.ProgrammingError:
        # Not chained: libpq quotes the piece it does not understand, and that may be the password.
        raise StoreError('store.dsn: not a connection string; expected "postgresql://user:password@host:5432/database"') from None
    try:
        connection = psycopg.connect(conninfo, autocommit=True, row_factory=tuple_row)
    except psycopg.Error as error:
        # libpq gives no SQLSTATE for a refused connection. But it can ask, without credentials, whether a server answers.
        # While the job runs, a refusal is never called final: the restart comes back here with `starting`.
        if starting and pq.PGconn.ping(conninfo.encode()) in (pq.Ping.OK, pq.Ping.NO_ATTEMPT):
            raise StoreError(
                f"{place}: the server refuses: {redact(str(error))}; check user, password and database in store.dsn"
            ) from error
        raise StoreUnavailable(f"{place}: no connection: {redact(str(error))}; check that the server runs and start again") from error
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state.startswith(_TRANSIENT) or (not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
            raise StoreUnavailable(f"{place}: {redact(str(error))}; start again when the server is back") from error
        raise StoreError(f"{place}: {redact(str(error))} (SQLSTATE {state}); check the table and the rights of the user") from error
