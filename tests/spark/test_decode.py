"""Each record becomes one row: with its key and time, or with the reason why not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import Events
from streaming.errors import ConfigError
from streaming.records.events import decode
from streaming.records.schema import META, PROBLEM, event_columns, event_schema

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def events(**given: Any) -> Events:
    base = {"topic": "t", "schema": "id STRING, t STRING, n INT, x DOUBLE, o STRUCT<a: DOUBLE, k: STRING>", "key": "id", "time": "t"}
    return Events.model_validate(base | given)


#: The value of a record -> the reason, or the key and the time in seconds.
TABLE: list[tuple[Any, Any]] = [
    (b'{"id":"a","t":"1970-01-01T00:00:10Z","n":1,"x":2.5,"o":{"a":1,"k":"b"}}', ("a", 10.0)),
    ('{"id":"ü","t":"1970-01-01T00:00:10Z"}'.encode(), ("ü", 10.0)),
    (b'{"id":5,"t":"1970-01-01T01:00:10+01:00"}', ("5", 10.0)),
    (b'  {"id":"a","t":"1970-01-01 00:00:10"}\n', ("a", 10.0)),
    (b'{"id":"a","t":"1970-01-02"}', ("a", 86_400.0)),
    (b'{"id":"a","t":"1970-01-01T00:00"}', ("a", 0.0)),
    (b'{"id":"a","t":"1970-01-01T00:00:00.000001Z"}', ("a", 1e-6)),
    (b'{"id":"a","t":"1970-01-01T05:30:00+0530"}', ("a", 0.0)),
    (b'{"id":"a","t":"1700000000"}', ("a", 1_700_000_000.0)),
    (b'{"id":"a","t":1700000000.25}', ("a", 1_700_000_000.25)),
    (b'{"id":"a","t":1700000000123}', ("a", 1_700_000_000.123)),
    (b'{"id":"a","t":631152000}', ("a", 631_152_000.0)),
    (b'{"id":"a","t":"631152000000"}', ("a", 631_152_000.0)),
    (b'{"id":"a","t":"20260101"}', ("a", 1_767_225_600.0)),
    (b'{"id":"a","t":"20260101120000"}', ("a", 1_767_268_800.0)),
    (b'{"id":"a","t":20260101}', ("a", 1_767_225_600.0)),
    (b'{"id":"a","t":20260101120000}', ("a", 1_767_268_800.0)),
    (b'{"id":"a","t":"20260101T1200"}', ("a", 1_767_268_800.0)),
    (b'{"id":"a","t":"20260101T120000Z"}', ("a", 1_767_268_800.0)),
    (b'{"id":"a","t":"20260101T173000.5+0530"}', ("a", 1_767_268_800.5)),
    (b'{"id":"a","t":"1900-01-01"}', ("a", -2_208_988_800.0)),
    (b'{"id":"a","t":"2026-01-02T04:04:05Z"}', ("a", 1_767_326_645.0)),
    (b'{"id":"a","t":"2026-01-02T04:04:06Z"}', "future_time"),
    (b'{"id":"a","t":1767326646}', "future_time"),
    (b'{"id":"a","t":"2099-01-01"}', "future_time"),
    (b'{"id":"a","t":"3000-12-31T23:59:59Z"}', "future_time"),
    (b'{"id":"a","t":"1970-01-01","unknown":{"deep":[1]}}', ("a", 0.0)),
    (b'{"id":"a } b","t":"1970-01-01","o":{"k":"}{ } {"}}', ("a } b", 0.0)),
    (b'{"id":"a","t":"1970-01-01","x":"NaN"}', ("a", 0.0)),
    (b'{"id":"a","t":"1970-01-01","n":null,"o":null}', ("a", 0.0)),
    (None, "null_value"),
    (b"", "malformed_json"),
    (b"   ", "malformed_json"),
    (b"hello", "malformed_json"),
    (b'{"id":"a","t":"1970-01-01"', "malformed_json"),
    (b'{"id":"a","t":"1970-01-01"}{"id":"b","t":"1970-01-01"}', "malformed_json"),
    (b'{"id":"a","t":"1970-01-01"}\n{"id":"b","t":"1970-01-01"}', "malformed_json"),
    (b'{"id":"a","t":"1970-01-01"},{"id":"b","t":"1970-01-01"}', "malformed_json"),
    (b'{"id":"a","t":"1970-01-01"} x', "malformed_json"),
    (b'{"id":"\xff","t":"1970-01-01"}', "invalid_utf8"),
    (b"\x00\x00\x00\x00\x01\x02\x80", "invalid_utf8"),
    (b"null", "wrong_type"),
    (b"5", "wrong_type"),
    (b'"text"', "wrong_type"),
    (b'[{"id":"a","t":"1970-01-01"}]', "wrong_type"),
    (b'[{"id":"a","t":"1970-01-01"},{"id":"b","t":"1970-01-01"}]', "wrong_type"),
    (b"[]", "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","n":"many"}', "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","n":1.5}', "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","n":99999999999}', "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","x":true}', "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","o":5}', "wrong_type"),
    (b'{"id":"a","t":"1970-01-01","o":{"a":"x"}}', "wrong_type"),
    (b"{}", "missing_key"),
    (b'{"t":"1970-01-01"}', "missing_key"),
    (b'{"id":null,"t":"1970-01-01"}', "missing_key"),
    (b'{"id":"","t":"1970-01-01"}', "missing_key"),
    (b'{"id":"  ","t":"1970-01-01"}', "missing_key"),
    (b'{"ID":"a","t":"1970-01-01"}', "missing_key"),
    (b'{"id":"a"}', "unparsable_time"),
    (b'{"id":"a","t":null}', "unparsable_time"),
    (b'{"id":"a","t":""}', "unparsable_time"),
    (b'{"id":"a","t":"yesterday"}', "unparsable_time"),
    (b'{"id":"a","t":"2024-13-45"}', "unparsable_time"),
    (b'{"id":"a","t":"2023-02-29T00:00:00Z"}', "unparsable_time"),
    (b'{"id":"a","t":"2024-01-01T00:00:00 Mars/Base"}', "unparsable_time"),
    (b'{"id":"a","t":"epoch"}', "unparsable_time"),
    (b'{"id":"a","t":"12:30"}', "unparsable_time"),
    (b'{"id":"a","t":"NaN"}', "unparsable_time"),
    (b'{"id":"a","t":"Infinity"}', "unparsable_time"),
    (b'{"id":"a","t":1e300}', "unparsable_time"),
    (b'{"id":"a","t":-99999999999}', "unparsable_time"),
    (b'{"id":"a","t":"10000-01-01"}', "unparsable_time"),
    (b'{"id":"a","t":{"s":1}}', "unparsable_time"),
    (b'{"id":"a","t":-1}', "unparsable_time"),
    (b'{"id":"a","t":0}', "unparsable_time"),
    (b'{"id":"a","t":631151999}', "unparsable_time"),
    (b'{"id":"a","t":4102444800}', "unparsable_time"),
    (b'{"id":"a","t":1700000000123456}', "unparsable_time"),
    (b'{"id":"a","t":"20261301"}', "unparsable_time"),
    (b'{"id":"a","t":"20260101T250000"}', "unparsable_time"),
    (b'{"id":"a","t":"202601011200"}', "unparsable_time"),
    (b'{"id":"a","t":"2026001"}', "unparsable_time"),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> list[Any]:
    """The whole table, decoded in one job."""
    made = [(b"k%d" % i, value, "t", i % 3, i, STAMP) for i, (value, _) in enumerate(TABLE)]
    records = spark.createDataFrame(made, "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP")
    wanted = events(columns={"lifted": "o.a"})
    parsed = event_schema(spark, wanted)
    decoded = decode(records.coalesce(1), wanted, parsed)
    assert decoded.columns == [META, PROBLEM, "id", "t", "n", "x", "o", "lifted"]
    # As microseconds: Python's own timestamps depend on the machine's time zone.
    collected = decoded.withColumn("micros", F.unix_micros(f"{META}.event_time")).collect()
    return sorted(collected, key=lambda row: row[META]["offset"])


def test_every_record_is_one_row_with_its_bytes_and_place(rows: list[Any]) -> None:
    assert [row[META]["offset"] for row in rows] == list(range(len(TABLE)))
    for i, row in enumerate(rows):
        e = row[META]
        assert (e["topic"], e["partition"], bytes(e["raw_key"])) == ("t", i % 3, b"k%d" % i)
        assert (None if e["raw_value"] is None else bytes(e["raw_value"])) == TABLE[i][0]


@pytest.mark.parametrize(("i", "value", "expected"), [(i, *entry) for i, entry in enumerate(TABLE)], ids=lambda v: repr(v)[:70])
def test_the_reason_or_the_key_and_the_time(rows: list[Any], i: int, value: Any, expected: Any) -> None:
    row = rows[i]
    if isinstance(expected, str):
        assert row[PROBLEM] is not None, f"was taken for good: {row}"
        assert row[PROBLEM]["reason"] == expected
        assert row[PROBLEM]["error"]
    else:
        assert row[PROBLEM] is None
        assert (row[META]["key"], row["micros"]) == (expected[0], round(expected[1] * 1e6))


def test_the_fields_of_a_good_event(rows: list[Any]) -> None:
    row = rows[0]
    assert (row["id"], row["n"], row["x"], row["o"]["a"], row["o"]["k"], row["lifted"]) == ("a", 1, 2.5, 1.0, "b", 1.0)


def test_an_error_names_the_field_and_its_type_and_never_the_value(rows: list[Any]) -> None:
    i = next(i for i, (value, _) in enumerate(TABLE) if value is not None and b'"many"' in value)
    assert "n (expected int)" in rows[i][PROBLEM]["error"]
    assert not [row for row in rows if row[PROBLEM] is not None and "many" in row[PROBLEM]["error"]]


def test_other_types_of_time_and_nested_keys(spark: SparkSession) -> None:
    record = spark.createDataFrame(
        [(None, b'{"n":7,"ts":"1970-01-01T00:00:10Z","d":"1970-01-02","l":1700000000,"o":{"k":"deep"}}', "t", 0, 0, STAMP)],
        "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP",
    )
    ddl = "n INT, ts TIMESTAMP, d DATE, l BIGINT, o STRUCT<k: STRING>"
    for time, key, seconds in [("ts", "o.k", 10.0), ("d", "n", 86_400.0), ("l", "o.k", 1_700_000_000.0), (None, "o.k", STAMP.timestamp())]:
        wanted = events(schema=ddl, key=key, time=time)
        decoded = decode(record, wanted, event_schema(spark, wanted))
        row = decoded.select(PROBLEM, f"{META}.key", F.unix_micros(f"{META}.event_time").alias("micros")).first()
        assert row is not None
        assert tuple(row) == (None, {"o.k": "deep", "n": "7"}[key], round(seconds * 1e6)), time


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schema": "id STRNG"}, "events.schema: not a Spark DDL string"),
        ({"schema": "id STRING, ID INT, t STRING"}, "events.schema: the field ID is there twice"),
        ({"schema": "id STRING, _event INT, t STRING"}, "events.schema: _event is a name the service keeps"),
        ({"key": "idd"}, "events.key: the schema has no field 'idd'; its fields: id, t, n, x, o.a, o.k"),
        ({"key": "ID"}, "events.key: the schema has no field 'ID'"),
        ({"key": "o"}, "events.key: o is a struct<"),
        ({"key": "id.x"}, "events.key: the schema has no field"),
        ({"time": "o.b"}, "events.time: the schema has no field"),
        ({"schema": "id STRING, t BOOLEAN"}, "events.time: t is a boolean; expected STRING, a number or TIMESTAMP"),
        ({"columns": {"a": "o.z"}}, "events.columns.a: the schema has no field"),
        ({"columns": {"X": "o.a"}}, "events.columns.x: the event already has a field of that name"),
        ({"columns": {"_Event": "o.a"}}, "events.columns._Event: "),
        ({"columns": {"q": "o.a", "Q": "o.k"}}, "events.columns.Q: "),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(spark: SparkSession, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        event_schema(spark, events(**given), source="c.yaml")
    assert str(error.value).startswith(f"c.yaml: {message}"), error.value


def test_the_columns_a_model_sees(spark: SparkSession) -> None:
    wanted = events(columns={"lifted": "o.a"})
    assert [f"{f.name} {f.dataType.simpleString()}" for f in event_columns(event_schema(spark, wanted), wanted).fields] == [
        "id string", "t string", "n int", "x double", "o struct<a:double,k:string>", "lifted double",
    ]  # fmt: skip
