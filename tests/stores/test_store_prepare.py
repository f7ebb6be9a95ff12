"""`prepare` makes the table or says exactly what is wrong with the one that is there; no secret reaches a message."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis as redis_py
from pydantic import SecretStr
from pyspark.sql import SparkSession

from streaming.adapters import STORES, load
from streaming.checks.predictions import frame, prediction
from streaming.config.stores import DeltaSection, PostgresSection, RedisSection, SqliteSection
from streaming.errors import StoreError, StoreUnavailable
from streaming.stores import delta, sqlite
from streaming.stores import postgres as pg
from streaming.stores import redis as rd

if TYPE_CHECKING:
    from tests.support.servers import DatabaseServer

_numbers = count()
_COLUMNS = {
    "key": "text NOT NULL", "model": "text NOT NULL", "event_time": "timestamptz NOT NULL", "source_partition": "integer NOT NULL",
    "source_offset": "bigint NOT NULL", "event_id": "text NOT NULL", "model_version": "text NOT NULL", "prediction": "double precision NOT NULL",
    "probability": "double precision[]", "scored_at": "timestamptz NOT NULL",
}  # fmt: skip
_SQLITE = {
    **dict.fromkeys(_COLUMNS, "TEXT"), "source_partition": "INTEGER", "source_offset": "INTEGER", "prediction": "REAL",
}  # fmt: skip


def _ddl(columns: dict[str, str], changes: dict[str, str | None], primary_key: str = "PRIMARY KEY (key, model)") -> str:
    """The columns of a CREATE TABLE; a change to None drops the column."""
    kept = {name: kind for name, kind in (columns | changes).items() if kind is not None}
    return ", ".join([*(f"{name} {kind}" for name, kind in kept.items()), *filter(None, [primary_key])])


#: (changes, primary key, what the message must say) for tables that must be refused, as PostgreSQL and SQLite write them.
_WRONG: dict[str, tuple[dict[str, str | None], dict[str, str | None], str, list[str]]] = {
    "wrong type": ({"prediction": "text"}, {"prediction": "TEXT"}, "PRIMARY KEY (key, model)", ["column prediction: got ", "expected "]),
    "two wrong": (
        {"source_offset": "text", "scored_at": None}, {"source_offset": "TEXT", "scored_at": None}, "PRIMARY KEY (key, model)",
        ["column source_offset: got ", "column scored_at: missing"],
    ),
    "no key": ({}, {}, "", ["primary key: expected PRIMARY KEY (key, model)"]),
    "other key": ({}, {}, "PRIMARY KEY (key)", ["primary key: expected PRIMARY KEY (key, model)"]),
    "required extra": ({"note": "text NOT NULL"}, {"note": "TEXT NOT NULL"}, "PRIMARY KEY (key, model)", ["column note: an extra column must be nullable"]),
    "required probability": (
        {"probability": "double precision[] NOT NULL"}, {"probability": "TEXT NOT NULL"}, "PRIMARY KEY (key, model)",
        ["column probability: got NOT NULL"],
    ),
}  # fmt: skip


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("case", _WRONG)
def test_postgres_refuses_a_table_that_does_not_fit(case: str, postgres: DatabaseServer, database: psycopg.Connection[Any]) -> None:
    changes, _, key, words = _WRONG[case]
    table = f"wrong_{next(_numbers)}"
    database.execute(f"CREATE TABLE {table} ({_ddl(_COLUMNS, changes, key)})")
    with pytest.raises(StoreError) as refused:
        pg.PostgresStore(postgres.dsn, table).prepare()
    assert all(word in str(refused.value) for word in [*words, table, "store.table"]), refused.value
    left = database.execute("SELECT count(*) FROM information_schema.columns WHERE table_name = %s", (table,)).fetchone()
    assert left == (len([kind for kind in (_COLUMNS | changes).values() if kind]),), "the table was altered"


@pytest.mark.parametrize("case", _WRONG)
def test_sqlite_refuses_a_table_that_does_not_fit(case: str, tmp_path: Path) -> None:
    _, changes, key, words = _WRONG[case]
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE predictions ({_ddl(_SQLITE, changes, key)})")
    with pytest.raises(StoreError) as refused:
        sqlite.SqliteStore(str(path)).prepare()
    assert all(word in str(refused.value) for word in [*words, str(path), "store.table"]), refused.value


def test_a_table_with_a_unique_index_and_extra_columns_fits(
    postgres: DatabaseServer, database: psycopg.Connection[Any], tmp_path: Path, spark: SparkSession
) -> None:
    extra = {"note": "text", "updates": "integer NOT NULL DEFAULT 0"}
    database.execute(f"CREATE TABLE roomy ({_ddl(_COLUMNS, extra, 'UNIQUE (model, key)')})")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute(f"CREATE TABLE predictions ({_ddl(_SQLITE, extra, 'UNIQUE (model, key)')})")
    for store in (pg.PostgresStore(postgres.dsn, "roomy"), sqlite.SqliteStore(str(tmp_path / "store.db"))):
        store.prepare()
        store.upsert(frame(spark, [prediction("a"), prediction("b", seconds=1)]), 0)
        assert store.count() == 2


def test_views_are_refused(postgres: DatabaseServer, database: psycopg.Connection[Any], tmp_path: Path) -> None:
    database.execute("CREATE VIEW looks_like_one AS SELECT 1 AS key")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("CREATE VIEW predictions AS SELECT 1 AS key")
    with pytest.raises(StoreError, match="expected a table"):
        pg.PostgresStore(postgres.dsn, "looks_like_one").prepare()
    with pytest.raises(StoreError, match="got a view, expected a table"):
        sqlite.SqliteStore(str(tmp_path / "store.db")).prepare()


def test_postgres_table_in_a_schema(postgres: DatabaseServer, database: psycopg.Connection[Any], spark: SparkSession) -> None:
    store = pg.PostgresStore(postgres.dsn, "Scoring.Predictions")
    with pytest.raises(StoreError, match="CREATE SCHEMA Scoring"):
        store.prepare()
    database.execute('CREATE SCHEMA "Scoring"')
    store.prepare()
    store.upsert(frame(spark, [prediction()]), 0)
    assert database.execute('SELECT key FROM "Scoring"."Predictions"').fetchall() == [("a",)]


def test_postgres_names_the_missing_rights(postgres: DatabaseServer, database: psycopg.Connection[Any]) -> None:
    pg.PostgresStore(postgres.dsn, "guarded").prepare()
    database.execute("CREATE ROLE reader LOGIN PASSWORD 'readersecret'; GRANT SELECT ON guarded TO reader")
    dsn = postgres.dsn.replace("postgres:secret@", "reader:readersecret@")
    with pytest.raises(StoreError, match="missing INSERT, UPDATE; GRANT"):
        pg.PostgresStore(dsn, "guarded").prepare()
    with pytest.raises(StoreError, match="permission denied"):
        pg.PostgresStore(dsn, "not_there_yet").prepare()


@pytest.mark.parametrize(
    "change", [lambda dsn: dsn.replace(":secret@", ":wrongword@"), lambda dsn: dsn.rsplit("/", 1)[0] + "/nowhere", lambda dsn: dsn.replace("postgres:secret@", "nobody:wrongword@")]
)  # fmt: skip
def test_postgres_that_refuses_the_login_is_a_store_error(change: Callable[[str], str], postgres: DatabaseServer) -> None:
    with pytest.raises(StoreError) as refused:
        pg.PostgresStore(change(postgres.dsn)).prepare()
    assert "check user, password and database in store.dsn" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "wrongword" not in str(refused.value)


def test_redis_that_refuses_the_login_is_a_store_error(redis: DatabaseServer) -> None:
    for url in (redis.url.replace(":secret@", ":wrongword@"), redis.url.replace(":secret@", "")):
        with pytest.raises(StoreError, match=r"check user and password in store\.url") as refused:
            rd.RedisStore(url).prepare()
        assert "wrongword" not in str(refused.value)


def test_nobody_answers() -> None:
    for store in (pg.PostgresStore("postgresql://user:wrongword@127.0.0.1:1/db"), rd.RedisStore("redis://:wrongword@127.0.0.1:1/0")):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1") as gone:
            store.prepare()
        assert "wrongword" not in str(gone.value)
        assert "wrongword" not in repr(store)


def test_an_address_that_is_none_is_a_store_error_without_the_address() -> None:
    for store in (pg.PostgresStore("postgresql://user:wrong word@:x:y/ =db"), pg.PostgresStore("wrongword"), rd.RedisStore("wrongword"), rd.RedisStore("redis://:p@h:wrongword/0")):  # fmt: skip
        with pytest.raises(StoreError, match="expected ") as refused:
            store.prepare()
        assert "wrong" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_redis_refuses_what_it_did_not_write(redis: DatabaseServer, spark: SparkSession) -> None:
    with redis_py.Redis.from_url(redis.url) as client:
        client.set("other:a", "text")
        client.hset("other:b", "champion", "{}")
    for key in "ab":
        with pytest.raises(StoreError, match="WRONGTYPE"):
            rd.RedisStore(redis.url, "other:").upsert(frame(spark, [prediction(key)]), 0)


def test_sqlite_paths_that_cannot_be(tmp_path: Path, spark: SparkSession) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to be read as one: " * 50)
    for path in ("file", "file/below/store.db", "."):
        with pytest.raises(StoreError, match=r"store\.path"):
            sqlite.SqliteStore(str(tmp_path / path)).prepare()


def test_delta_refuses_other_columns_and_other_files(tmp_path: Path, spark: SparkSession) -> None:
    wrong, files = str(tmp_path / "wrong"), str(tmp_path / "files")
    rows = frame(spark, [prediction()])
    rows.withColumn("prediction", rows["prediction"].cast("string")).drop("scored_at").write.format("delta").save(wrong)
    with pytest.raises(StoreError) as refused:
        delta.DeltaStore(wrong, spark).prepare()
    assert "column prediction: got string, expected double" in str(refused.value)
    assert "column scored_at: missing, expected timestamp" in str(refused.value)
    rows.write.parquet(files)
    with pytest.raises(StoreError, match="files"):
        delta.DeltaStore(files, spark).prepare()


def test_the_configuration_opens_each_kind(tmp_path: Path, spark: SparkSession) -> None:
    configured = [
        SqliteSection(kind="sqlite", path="x.db", table="t"),
        PostgresSection(kind="postgres", dsn=SecretStr("postgresql://u:p@h/d"), table="s.t"),
        RedisSection(kind="redis", url=SecretStr("redis://h"), prefix="p:"),
        DeltaSection(kind="delta", uri="x"),
    ]
    opened = [load(section.kind, STORES).open(section, spark) for section in configured]
    assert opened == [
        sqlite.SqliteStore("x.db", "t"), pg.PostgresStore("postgresql://u:p@h/d", "s.t"), rd.RedisStore("redis://h", "p:"), delta.DeltaStore("x", spark)
    ]  # fmt: skip
