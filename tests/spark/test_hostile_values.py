"""No value of any declared type ends a query: whatever stands in a record, it is one row, good or with its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import Events
from streaming.errors import ConfigError
from streaming.records.events import decode, event_time, in_years, key_text
from streaming.records.schema import META, PROBLEM, event_schema
from tests.support import hostile

STAMP = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TYPES: Final = (
    "BOOLEAN", "BYTE", "SHORT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(10,2)", "DECIMAL(38,18)", "STRING", "BINARY", "DATE",
    "TIMESTAMP", "TIMESTAMP_NTZ", "INTERVAL DAY TO SECOND", "INTERVAL YEAR TO MONTH", "VARIANT", "ARRAY<DECIMAL(9,1)>",
    "MAP<STRING, DATE>", "STRUCT<a: TIMESTAMP, b: ARRAY<STRUCT<c: DECIMAL(5,1)>>>",
)  # fmt: skip
NOT_A_TIME: Final = ("BOOLEAN", "BINARY", "INTERVAL", "VARIANT", "ARRAY", "MAP", "STRUCT")


def decoded(spark: SparkSession, values: list[tuple[int, str]]) -> list[Row]:
    """Each value in the field of its type, decoded; read as a time and as a key too, and written out as JSON, as an answer would be."""
    ddl = "id STRING, " + ", ".join(f"v{i} {kind}" for i, kind in enumerate(TYPES))
    events = Events.model_validate({"topic": "t", "schema": ddl, "key": "id"})
    parsed = event_schema(spark, events)
    rows = [(None, f'{{"id":"a","v{i}":{text}}}'.encode(), "t", 0, n, STAMP) for n, (i, text) in enumerate(values)]
    frame = spark.createDataFrame(rows, "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP")
    kinds = {f"v{i}": parsed[f"v{i}"].dataType for i in range(len(TYPES))}
    times = [
        in_years(event_time(F.col(f"v{i}"), kinds[f"v{i}"])).alias(f"t{i}")
        for i, name in enumerate(TYPES)
        if not name.startswith(NOT_A_TIME)
    ]
    keys = [key_text(F.col(f"v{i}"), kinds[f"v{i}"]).alias(f"k{i}") for i, name in enumerate(TYPES) if not name.startswith(NOT_A_TIME[4:])]
    # All in one text, so that everything is computed; not the values themselves, which Python could not hold.
    written = F.to_json(F.struct(*times, *keys))
    return decode(frame.repartition(4), events, parsed).select(f"{META}.offset", PROBLEM, F.length(written).alias("n")).collect()


def judge(rows: list[Row], values: list[tuple[int, str]]) -> None:
    assert sorted(row["offset"] for row in rows) == list(range(len(values)))
    for row in rows:
        i, text = values[row["offset"]]
        assert row[PROBLEM] is None or row[PROBLEM]["reason"] in {"malformed_json", "wrong_type"}, (TYPES[i], text[:80])


def test_no_value_of_any_type_ends_the_query(spark: SparkSession) -> None:
    values = [(i, text) for i in range(len(TYPES)) for text in hostile.VALUES] + [
        (n % len(TYPES), text) for n, text in enumerate(hostile.values(7, 2000))
    ]
    judge(decoded(spark, values), values)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
def test_no_made_up_value_of_any_type_ends_the_query(spark: SparkSession, seed: int) -> None:
    values = [(n % len(TYPES), text) for n, text in enumerate(hostile.values(seed, 20_000))]
    judge(decoded(spark, values), values)


def test_a_decimal_that_would_never_be_read_to_its_end_is_of_the_wrong_type_and_others_stay(spark: SparkSession) -> None:
    """The exponent alone decides, wherever it stands; text that only looks like it, in a field that is no DECIMAL, is left alone."""
    events = Events.model_validate({"topic": "t", "schema": "id STRING, d DECIMAL(10,2), x DOUBLE", "key": "id"})
    cases: list[tuple[str, Any]] = [
        ('{"id":"3e12345","d":0.0}', None), ('{"id":"a, 3e12345 ,b","d":"0.00"}', None), (r'{"id":"\"3e12345,","d":1.5}', None),
        ('{"id":"a","d":1e5}', None), ('{"id":"a","d":"1.5e2"}', None), (r'{"id":"\u0041","d":1}', None),
        ('{"id":"a","d":1e400000000}', "wrong_type"), ('{"id":"a","d":1e-400000000}', "wrong_type"), ('{"id":"a","d":"1e400000000"}', "wrong_type"),
        (r'{"id":"\"","d":1e400000000}', "wrong_type"), (r'{"id":"\\","d":1e400000000}', "wrong_type"), (r'{"id":"a","d":"1\u0065400000000"}', "wrong_type"),
        ('{"id":"a","d":1,"d":1e400000000}', "wrong_type"), (r'{"id":"a","\u0064":1e400000000}', "wrong_type"),
        # Broken behind the number, which has been read by then.
        ('{"id":"a","d":"1e400000000","x":-}', "wrong_type"), ('{"id":"a","d":"1e-400000000",', "wrong_type"), ('{"id":"a","d":"1.5e2","x":-}', "malformed_json"),
    ]  # fmt: skip
    rows = [(None, text.encode(), "t", 0, n, STAMP) for n, (text, _) in enumerate(cases)]
    frame = spark.createDataFrame(rows, "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP")
    said = decode(frame, events, event_schema(spark, events)).select(F.col(f"{META}.offset").alias("n"), f"{PROBLEM}.reason").collect()
    assert {cases[row["n"]][0]: row["reason"] for row in said} == dict(cases)


@pytest.mark.parametrize("kind", ["CHAR(3)", "VARCHAR(3)", "STRUCT<a: ARRAY<CHAR(3)>>"])
def test_a_type_that_spark_cannot_read_from_json_is_refused_at_the_start(spark: SparkSession, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"events\.schema: .*STRING"):
        event_schema(spark, Events.model_validate({"topic": "t", "schema": f"id STRING, v {kind}", "key": "id"}))
