"""A table's values as the event schema declares them: exactly, or the row is rejected, as on the stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import Events
from streaming.errors import ConfigError
from streaming.records import tables
from streaming.records.schema import META, PROBLEM, event_schema

STAMP = datetime(2026, 1, 2, tzinfo=UTC)
NULL = object()

#: type in the table, its value, type in the event schema, and what it is there; NULL: the row is rejected.
CASES: list[tuple[str, Any, str, Any]] = [
    ("DOUBLE", 1.5, "INT", NULL),
    ("DOUBLE", 2.0, "INT", 2),
    ("DOUBLE", float("nan"), "INT", NULL),
    ("DOUBLE", float("inf"), "BIGINT", NULL),
    ("DOUBLE", 3e9, "INT", NULL),
    ("DOUBLE", None, "INT", None),
    ("FLOAT", 0.5, "SMALLINT", NULL),
    ("DECIMAL(5,2)", Decimal("7.25"), "BIGINT", NULL),
    ("DECIMAL(5,2)", Decimal("7.00"), "BIGINT", 7),
    ("BIGINT", 1 << 40, "INT", NULL),
    ("INT", 3, "DOUBLE", 3.0),
    ("INT", 3, "STRING", "3"),
    ("INT", 2, "BOOLEAN", NULL),
    ("INT", 1, "BOOLEAN", True),
    ("STRING", "1.5", "INT", NULL),
    ("STRING", "15", "INT", 15),
    ("STRING", "many", "DOUBLE", NULL),
    ("STRING", "1.25", "DECIMAL(5,2)", Decimal("1.25")),
    ("STRING", "1e400000000", "DECIMAL(5,2)", NULL),
    ("STRING", "1e-400000000", "DECIMAL(5,2)", NULL),
    ("STRING", "9" * 20_000, "DECIMAL(5,2)", NULL),
    ("TIMESTAMP", datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC), "BIGINT", NULL),
    ("STRUCT<total: DOUBLE, monthly: DOUBLE>", Row(total=900.0, monthly=20.0), "STRUCT<monthly: DOUBLE, total: DOUBLE>", (20.0, 900.0)),
    ("STRUCT<b: DOUBLE, a: INT>", Row(b=2.5, a=1), "STRUCT<a: INT, b: INT>", NULL),
    ("STRUCT<a: INT>", Row(a=1), "STRUCT<a: INT, b: INT>", (1, None)),
    ("STRUCT<a: INT>", None, "STRUCT<a: INT, b: INT>", None),
    ("ARRAY<STRUCT<y: INT, x: INT>>", [Row(y=2, x=1), None], "ARRAY<STRUCT<x: INT, y: INT>>", [(1, 2), None]),
    ("ARRAY<DOUBLE>", [1.0, 1.5], "ARRAY<INT>", NULL),
    ("ARRAY<DOUBLE>", [1.0, None], "ARRAY<INT>", [1, None]),
    ("MAP<STRING, DOUBLE>", {"a": 1.5}, "MAP<STRING, INT>", NULL),
    ("MAP<STRING, DOUBLE>", {"a": 2.0}, "MAP<STRING, INT>", {"a": 2}),
    ("STRING", '{"a": 1, "b": 2.5}', "STRUCT<a: INT, b: DOUBLE>", (1, 2.5)),
    ("STRING", '{"a": 1, "b": ', "STRUCT<a: INT, b: DOUBLE>", NULL),
    ("STRING", '{"a": "x"}', "STRUCT<a: INT, b: DOUBLE>", NULL),
    ("STRING", '{"a": 1}{"a": 2}', "STRUCT<a: INT, b: DOUBLE>", NULL),
    ("STRING", "", "STRUCT<a: INT>", None),
    ("STRING", "[1, 2]", "ARRAY<INT>", [1, 2]),
    ("STRING", "[1, 2", "ARRAY<INT>", NULL),
    ("STRING", '{"a": 1}', "MAP<STRING, INT>", {"a": 1}),
]  # fmt: skip


def decoded(spark: SparkSession, columns: list[tuple[str, Any]], ddl: str) -> Row:
    """One row with these columns (type, value), named c0, c1, …, as an event of the schema."""
    types = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(columns))
    rows = spark.createDataFrame([("k", *(value for _, value in columns))], f"id STRING, {types}")
    events = Events.model_validate({"topic": "t", "key": "id", "schema": ddl})
    where = {"topic": F.lit("file"), "partition": F.lit(0), "offset": F.lit(0), "timestamp": F.lit(STAMP)}
    row = tables.decode(rows, events, event_schema(spark, events), where=where).first()
    assert row is not None
    return row


@pytest.fixture(scope="module")
def row(spark: SparkSession) -> Row:
    """Every case as a column of one row: its value, and the words about those that could not be read."""
    ddl = ", ".join(f"c{i} {declared}" for i, (_, _, declared, _) in enumerate(CASES))
    return decoded(spark, [(kind, value) for kind, value, _, _ in CASES], f"id STRING, {ddl}")


@pytest.mark.parametrize(
    ("i", "case"), list(enumerate(CASES)), ids=lambda v: f"{v[0]} {v[1]!r} as {v[2]}"[:60] if isinstance(v, tuple) else ""
)
def test_a_value_is_what_it_was_or_the_row_is_rejected(row: Row, i: int, case: tuple[str, Any, str, Any]) -> None:
    words = row[PROBLEM]["error"]
    assert row[PROBLEM]["reason"] == "wrong_type"
    name, expected = f"c{i}", case[3]
    if expected is NULL:
        assert f"{name} (expected " in words
    else:
        assert f"{name} (expected " not in words
        value = row[name]
        if isinstance(value, list):
            value = [None if x is None else tuple(x) if isinstance(x, Row) else x for x in value]
        assert (tuple(value) if isinstance(value, Row) else value) == expected


def test_a_row_without_fault_is_good_and_its_values_are_never_shown_in_errors(spark: SparkSession) -> None:
    good = [case for case in CASES if case[3] is not NULL]
    ddl = ", ".join(f"c{i} {declared}" for i, (_, _, declared, _) in enumerate(good))
    assert decoded(spark, [(kind, value) for kind, value, _, _ in good], f"id STRING, {ddl}")[PROBLEM] is None
    assert "many" not in json.dumps(decoded(spark, [("STRING", "many")], "id STRING, c0 INT")[PROBLEM].asDict())


def test_a_type_that_no_cast_reaches_is_refused_before_a_row_is_read(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"do not fit events\.schema"):
        decoded(spark, [("ARRAY<INT>", [1])], "id STRING, c0 INT")


def test_a_time_ahead_of_the_file_is_rejected(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("a", "2026-01-02T00:59:59Z"), ("b", "2026-01-02T01:00:01Z"), ("c", "20991231")], "id STRING, at STRING")
    events = Events.model_validate({"topic": "t", "key": "id", "time": "at", "schema": "id STRING, at STRING"})
    where = {"topic": F.lit("file"), "partition": F.lit(0), "offset": F.lit(0), "timestamp": F.lit(STAMP)}
    said = {
        r[META]["key"]: r[PROBLEM] and r[PROBLEM]["reason"]
        for r in tables.decode(rows, events, event_schema(spark, events), where=where).collect()
    }
    assert said == {"a": None, "b": "future_time", "c": "future_time"}
