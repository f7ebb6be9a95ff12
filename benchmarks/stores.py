"""Rows per second of each store: 43,000 keys a batch, several batches, against real servers started for the run.

    python -m benchmarks stores [--keys 43000] [--batches 4] [sqlite postgres redis delta]

The first batch inserts every key, the others replace every row, the last is an exact repeat, which must change nothing.
Spark's own part of the work (reading the frame) is in the figures.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.records.predictions import STORED
from streaming.runtime import session
from streaming.stores import delta, postgres, redis, sqlite
from streaming.stores.base import Store
from tests.support import servers


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


def stores(spark: SparkSession, kinds: list[str], stack: ExitStack) -> Iterator[tuple[str, Store]]:
    """The stores asked for, each with a server of its own."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-stores-"))
    for kind in kinds:
        match kind:
            case "sqlite":
                yield kind, sqlite.SqliteStore(f"{folder}/store.db")
            case "postgres":
                yield kind, postgres.PostgresStore(stack.enter_context(servers.running_postgres()).dsn)
            case "redis":
                yield kind, redis.RedisStore(stack.enter_context(servers.running_redis()).url)
            case _:
                yield kind, delta.DeltaStore(f"{folder}/delta", spark)


def main() -> None:
    """Parse the command line, run, print one line per store."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("kinds", nargs="*", default=["sqlite", "postgres", "redis", "delta"])
    arguments.add_argument("--keys", type=int, default=43_000)
    arguments.add_argument("--batches", type=int, default=4)
    given = arguments.parse_args()
    spark = session.start("bench-stores", master="local[2]", delta=True, options={"spark.databricks.delta.snapshotPartitions": "2"})
    frames = [predictions(spark, given.keys, batch).cache() for batch in range(given.batches)]
    frames.append(frames[-1])
    for batch in frames:
        batch.count()
    with ExitStack() as stack:
        for kind, store in stores(spark, given.kinds, stack):
            store.prepare()
            store.upsert(frames[0].limit(0), 0)  # the first job of a session pays for all later ones
            rates = []
            for number, batch in enumerate(frames):
                start = time.perf_counter()
                store.upsert(batch, number + 1)
                rates.append(given.keys / (time.perf_counter() - start))
            assert store.count() == given.keys
            middle = sorted(rates[1:-1])[len(rates[1:-1]) // 2]
            print(
                f"{kind:9} insert {rates[0]:>9,.0f} rows/s   replace {middle:>9,.0f} rows/s   repeat {rates[-1]:>9,.0f} rows/s", flush=True
            )
    spark.stop()


if __name__ == "__main__":
    main()
