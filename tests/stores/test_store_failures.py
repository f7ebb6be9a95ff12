"""A store that goes away in the middle of the stream is StoreUnavailable, and the replayed batch makes it whole."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

import psycopg
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from streaming import secrets
from streaming.checks.predictions import expect, frame, prediction
from streaming.errors import StoreError, StoreUnavailable
from streaming.stores import postgres as pg
from streaming.stores import redis as rd
from streaming.stores import sqlite
from streaming.stores.write_partitions import write_partitions

if TYPE_CHECKING:
    from streaming.stores.base import Store
    from tests.support.servers import DatabaseServer


def _goes_and_comes_back(server: DatabaseServer, store: Store, spark: SparkSession) -> None:
    rows = [prediction(f"k{i}", seconds=i) for i in range(8)]
    store.prepare()
    store.upsert(frame(spark, rows[:4]), 0)
    server.kill()
    try:
        for act in (lambda: store.upsert(frame(spark, rows), 1), lambda: store.get("k0"), store.count, store.prepare):
            with pytest.raises(StoreUnavailable):
                act()
    finally:
        server.start()
    store.upsert(frame(spark, rows), 1)
    expect(store, rows)


def test_postgres_killed_and_back(postgres: DatabaseServer, spark: SparkSession) -> None:
    _goes_and_comes_back(postgres, pg.PostgresStore(postgres.dsn, "killed"), spark)


def test_a_look_up_does_not_wait_for_a_lock(postgres: DatabaseServer, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pg, "LOOK_UP_S", 1.0)
    store = pg.PostgresStore(postgres.dsn, "locked")
    store.prepare()
    with psycopg.connect(postgres.dsn) as other:
        other.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            store.get("k")
    assert store.get("k") == []


def test_a_look_up_does_not_wait_for_a_server_that_hangs(postgres: DatabaseServer) -> None:
    with pytest.raises(StoreUnavailable), pg._connection(postgres.dsn) as connection, pg._given_up_after(connection, 0.3):
        connection.execute("SELECT pg_sleep(600)")  # a server that enforces no timeout of its own


def test_a_server_whose_machine_is_gone_is_known_in_half_a_minute(postgres: DatabaseServer) -> None:
    """Nothing comes from it, not even a refusal: only the kernel's own questions tell."""
    with pg._connection(postgres.dsn) as connection, socket.socket(fileno=os.dup(connection.fileno())) as own:
        asked = {name: own.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}")) for name in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT")}
        assert asked == {"KEEPIDLE": 10, "KEEPINTVL": 5, "KEEPCNT": 3}
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
    with pg._connection(f"{postgres.dsn}?keepalives_idle=77") as connection, socket.socket(fileno=os.dup(connection.fileno())) as own:
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77


def test_redis_killed_and_back(redis: DatabaseServer, spark: SparkSession) -> None:
    _goes_and_comes_back(redis, rd.RedisStore(redis.url, "killed:"), spark)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, "keeps what it acknowledges"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "may lose about a second"),
        ({"appendonly": "yes"}, "may lose about a second"),
        ({"appendonly": "yes", "appendfsync": "no"}, "WARNING: may lose what the operating system"),
        ({"appendonly": "no", "save": "3600 1"}, "WARNING: keeps snapshots only"),
        ({"appendonly": "no", "save": ""}, "WARNING: keeps nothing"),
        ({}, "WARNING: keeps nothing"),
    ],
)
def test_what_redis_may_lose_is_said(own: dict[str, str], said: str) -> None:
    assert rd._durability(own).startswith(said)


def test_a_redis_server_is_asked_what_it_keeps(redis: DatabaseServer) -> None:
    store = rd.RedisStore(redis.url, "kept:")
    assert store.durability().startswith("may lose about a second")
    with rd._client(redis.url) as client:
        client.config_set("appendonly", "no")
        try:
            assert store.durability().startswith("WARNING: keeps nothing")
        finally:
            client.config_set("appendonly", "yes")


def test_keys_that_grow_when_they_are_escaped_still_fit_into_the_index(postgres: DatabaseServer, spark: SparkSession) -> None:
    store = pg.PostgresStore(postgres.dsn, "escaped")
    store.prepare()
    long = "k" * 3_000
    stands_for = f"{long[:200]}…{hashlib.sha256(long.encode()).hexdigest()}"
    keys = [
        "\x00" * 1_900,
        "␛" * 600,
        "␛" * 666,
        "a\x00b",
        long,
        stands_for,
        *("".join(random.Random(n).choices("\x00␀␛äk", k=900)) for n in range(9)),
    ]
    rows = [prediction(key, seconds=i) for i, key in enumerate(keys)]
    store.upsert(frame(spark, rows), 0)
    expect(store, rows)


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_killed_while_rows_are_on_their_way(kind: str, request: pytest.FixtureRequest, spark: SparkSession) -> None:
    """The server dies when the first rows have been sent and the last have not: the batch fails as a whole, its replay works."""
    server: DatabaseServer = request.getfixturevalue(kind)
    store: Store = pg.PostgresStore(server.dsn, "halfway") if kind == "postgres" else rd.RedisStore(server.url, "halfway:")
    store.prepare()
    n = 2_000
    rows = frame(spark, [prediction(f"k{i}", seconds=i) for i in range(n)]).coalesce(1)
    # 20 Arrow batches of 100 rows, a good 0.2 s each.
    slowly = rows.withColumn("key", F.udf(lambda key: sleep(0.002) or key, "string")("key"))
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    try:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(store.upsert, slowly, 0)
            while not (_copying(server) if kind == "postgres" else store.count()):
                assert not writing.done(), "the batch was over before the server could be killed"
            server.kill()
            with pytest.raises(StoreUnavailable):
                writing.result(timeout=120)
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
        server.kill()
        server.start()
    store.upsert(rows, 0)
    assert store.count() == n


def _copying(server: DatabaseServer) -> bool:
    with psycopg.connect(server.dsn) as connection:
        return connection.execute("SELECT 1 FROM pg_stat_progress_copy").fetchone() is not None


def test_a_table_that_vanished_is_a_store_error(postgres: DatabaseServer, tmp_path: Path, spark: SparkSession) -> None:
    lost = sqlite.SqliteStore(str(tmp_path / "store.db"))
    lost.prepare()
    with closing(sqlite3.connect(lost.path)) as connection:
        connection.execute("DROP TABLE predictions")
    for store in (lost, sqlite.SqliteStore(str(tmp_path / "never.db")), pg.PostgresStore(postgres.dsn, "never")):
        with pytest.raises(StoreError, match=r"predictions|never"):
            store.upsert(frame(spark, [prediction()]), 0)
    assert not (tmp_path / "never.db").exists()


def test_readers_see_the_last_batch_while_the_next_is_written(tmp_path: Path, spark: SparkSession) -> None:
    store = sqlite.SqliteStore(str(tmp_path / "store.db"))
    store.prepare()
    store.upsert(frame(spark, [prediction("a")]), 0)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE predictions SET prediction = 7")
        expect(store, [prediction("a")])
        writer.execute("COMMIT")
    assert store.get("a")[0]["prediction"] == 7.0


def test_a_locked_sqlite_file_is_unavailable(tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    store = sqlite.SqliteStore(str(tmp_path / "store.db"))
    store.prepare()
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            store.upsert(frame(spark, [prediction()]), 0)
    store.upsert(frame(spark, [prediction()]), 0)
    expect(store, [prediction()])


def test_partitions_bring_the_kind_of_error_home(spark: SparkSession) -> None:
    rows = frame(spark, [prediction(f"k{i}") for i in range(4)]).repartition(3)
    secrets.remember("hush-hush")

    def refuse(batches: object) -> int:
        raise StoreError("no hush-hush here")

    def away(batches: object) -> int:
        raise StoreUnavailable("away")

    def mixed(batches: object) -> int:
        keys = [key for batch in batches for key in batch.column("key").to_pylist()]  # type: ignore[attr-defined]
        raise StoreError("refused") if "k0" in keys else StoreUnavailable("away")

    def bug(batches: object) -> int:
        raise ZeroDivisionError("a bug, not the store")

    with pytest.raises(StoreError, match=r"no \*\*\* here"):
        write_partitions(rows, refuse)
    with pytest.raises(StoreUnavailable, match="away"):
        write_partitions(rows, away)
    with pytest.raises(StoreError, match="refused"):
        write_partitions(rows, mixed)
    with pytest.raises(Exception, match="a bug, not the store"):
        write_partitions(rows, bug)


def test_partitions_count_rows_and_skip_empty_ones(spark: SparkSession) -> None:
    def some(batches: object) -> int:
        rows = sum(batch.num_rows for batch in batches)  # type: ignore[attr-defined]
        if not rows:
            raise StoreError("called for an empty partition")
        return rows

    rows = frame(spark, [prediction(f"k{i}") for i in range(5)])
    assert write_partitions(rows.repartition(9), some) == 5
    assert write_partitions(rows.limit(0), some) == 0
