"""Rows per second of each store against its bare driver: `executemany` of upserts, and PostgreSQL's raw COPY, which upserts nothing.

    python -m benchmarks stores

Batches of 43,000 keys against real servers started for the run. The first batch inserts every key, the others replace
every row, the last is an exact repeat, which must change nothing. Spark's part of the work (reading the frame) is in the
stores' figures and not in the drivers', whose rows are Python tuples from the start.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import apart
from streaming.records.predictions import STORED
from streaming.runtime import session
from streaming.stores import delta, postgres, redis, sqlite
from streaming.stores.base import Store
from tests.support import servers

KINDS = ("sqlite", "postgres", "redis", "delta")
#: A batch, written somewhere.
Write = Callable[[int], None]
_NAMES = ", ".join(STORED.fieldNames())
_SET = ", ".join(f"{name} = excluded.{name}" for name in STORED.fieldNames() if name not in ("key", "model"))


def predictions(spark: SparkSession, keys: int, batch: int) -> DataFrame:
    """One row per key, newer with each batch."""
    rows = spark.range(0, keys, 1, 2).select(
        F.format_string("customer-%07d", "id").alias("key"),
        F.lit("churn").alias("model"),
        F.timestamp_micros(F.lit(1_700_000_000_000_000 + batch * 1_000_000) + F.col("id")).alias("event_time"),
        (F.col("id") % 4).cast("int").alias("source_partition"),
        (F.col("id") + batch * keys).alias("source_offset"),
        F.concat(F.lit("events:0:"), F.col("id") + batch * keys).alias("event_id"),
        F.lit("3").alias("model_version"),
        F.rand(batch).alias("prediction"),
        F.array(F.rand(batch), F.rand(batch + 1)).alias("probability"),
        F.timestamp_micros(F.lit(1_700_000_000_500_000 + batch * 1_000_000) + F.col("id")).alias("scored_at"),
    )
    return spark.createDataFrame(rows.toArrow(), schema=STORED).repartition(2)


def of_store(store: Store, batches: Sequence[DataFrame]) -> Write:
    """The store's own upsert."""
    store.prepare()
    store.upsert(batches[0].limit(0), 0)  # the first job of a session pays for all later ones
    return lambda number: store.upsert(batches[number], number + 1)


def sqlite_executemany(path: str, rows: Sequence[Sequence[tuple[Any, ...]]]) -> Write:
    """One transaction of `executemany` for each batch, on disk when it returns."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"CREATE TABLE plain ({_NAMES}, PRIMARY KEY (key, model)) WITHOUT ROWID")
    marks = ", ".join("?" * len(STORED))
    upsert = f"INSERT INTO plain ({_NAMES}) VALUES ({marks}) ON CONFLICT (key, model) DO UPDATE SET {_SET}"
    texts = [[tuple(v if isinstance(v, int | float | str) else str(v) for v in row) for row in batch] for batch in rows]

    def write(number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(upsert, texts[number])
        connection.execute("COMMIT")

    return write


def _plain_table(dsn: str, name: str, *, key: bool) -> psycopg.Connection[Any]:
    connection = psycopg.connect(dsn, autocommit=True)
    types = ("text", "text", "timestamptz", "integer", "bigint", "text", "text", "double precision", "double precision[]", "timestamptz")
    columns = ", ".join(f"{column} {kind}" for column, kind in zip(STORED.fieldNames(), types, strict=True))
    connection.execute(f"CREATE TABLE {name} ({columns}{', PRIMARY KEY (key, model)' if key else ''})")
    return connection


def postgres_executemany(dsn: str, rows: Sequence[Sequence[tuple[Any, ...]]]) -> Write:
    """One transaction of psycopg's pipelined `executemany` for each batch."""
    connection = _plain_table(dsn, "plain", key=True)
    marks = ", ".join(["%s"] * len(STORED))
    upsert = f"INSERT INTO plain ({_NAMES}) VALUES ({marks}) ON CONFLICT (key, model) DO UPDATE SET {_SET}"

    def write(number: int) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(upsert, rows[number])

    return write


def postgres_copy(dsn: str, rows: Sequence[Sequence[tuple[Any, ...]]]) -> Write:
    """COPY into a table without a key: what the database can take at most."""
    connection = _plain_table(dsn, "copied", key=False)

    def write(number: int) -> None:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(f"COPY copied ({_NAMES}) FROM STDIN") as copy:
            for row in rows[number]:
                copy.write_row(row)

    return write


def contenders(spark: SparkSession, kinds: Sequence[str], batches: Sequence[DataFrame], stack: ExitStack) -> Iterator[tuple[str, Write]]:
    """The stores asked for, each with a server of its own, and beside them what their drivers do without us."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-stores-"))
    rows = [[tuple(row) for row in batch.collect()] for batch in batches] if {"sqlite", "postgres"} & set(kinds) else []
    for kind in kinds:
        match kind:
            case "sqlite":
                yield "sqlite", of_store(sqlite.SqliteStore(f"{folder}/store.db"), batches)
                yield "sqlite3, executemany", sqlite_executemany(f"{folder}/plain.db", rows)
            case "postgres":
                dsn = stack.enter_context(servers.running_postgres()).dsn
                yield "postgres", of_store(postgres.PostgresStore(dsn), batches)
                yield "psycopg, executemany", postgres_executemany(dsn, rows)
                yield "psycopg, raw COPY, no upsert", postgres_copy(dsn, rows)
            case "redis":
                yield "redis", of_store(redis.RedisStore(stack.enter_context(servers.running_redis()).url), batches)
            case _:
                yield "delta", of_store(delta.DeltaStore(f"{folder}/delta", spark), batches)


def rates(write: Write, *, keys: int, batches: int) -> list[float]:
    """Rows per second of each batch."""
    per_second = []
    for number in range(batches):
        start = time.perf_counter()
        write(number)
        per_second.append(keys / (time.perf_counter() - start))
    return per_second


def main() -> None:
    """Measure and hand the figures over."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("kinds", nargs="*", default=list(KINDS))
    arguments.add_argument("--keys", type=int, default=43_000)
    arguments.add_argument("--batches", type=int, default=4)
    given = arguments.parse_args()
    spark = session.start("bench-stores", master="local[2]", delta=True, options={"spark.databricks.delta.snapshotPartitions": "2"})
    batches = [predictions(spark, given.keys, batch).cache() for batch in range(given.batches)]
    batches.append(batches[-1])
    for batch in batches:
        batch.count()
    with ExitStack() as stack:
        for name, write in contenders(spark, given.kinds, batches, stack):
            apart.say(name)
            insert, *replace, repeat = rates(write, keys=given.keys, batches=len(batches))
            for measure, values in (("insert", [insert]), ("replace", replace), ("repeat", [repeat])):
                apart.figure(name, f"{given.keys:,} keys", measure, "rows/s", values)
    spark.stop()


if __name__ == "__main__":
    main()
