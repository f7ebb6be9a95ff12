"""The trace of an event travels to its prediction, and nothing else that a producer put into the headers does."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from streaming.records import predictions

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = b"00-ffffffffffffffffffffffffffffffff-00f067aa0ba902b7-01"
STATE = b"congo=t61rcWkgMzE"

BOTH = [("traceparent", PARENT), ("tracestate", STATE)]

CASES = [
    (None, None),
    ([], None),
    ([("x", b"1")], None),
    ([("x", b"1"), *BOTH, ("y", b"2")], BOTH),
    (BOTH[::-1], BOTH),
    ([("traceparent", OTHER), ("traceparent", PARENT)] * 500, [("traceparent", PARENT)]),
    ([("traceparent", PARENT), ("traceparent", b"not a trace")], None),
    ([("traceparent", PARENT + b"0" * 100_000)], None),
    ([("traceparent", PARENT + b"\n")], None),
    ([("traceparent", PARENT.upper())], None),
    ([("traceparent", b"ff" + PARENT[2:])], None),
    ([("traceparent", b"00-" + b"0" * 32 + PARENT[35:])], None),
    ([("traceparent", PARENT[:36] + b"0" * 16 + b"-01")], None),
    ([("traceparent", None), ("tracestate", STATE)], None),
    ([("traceparent", b"\xff\xfe"), ("tracestate", STATE)], None),
    ([("tracestate", STATE)], None),
    ([("traceparent", PARENT), ("tracestate", b"a" * 512)], [("traceparent", PARENT), ("tracestate", b"a" * 512)]),
    ([("traceparent", PARENT), ("tracestate", b"a" * 513)], [("traceparent", PARENT)]),
    ([("traceparent", PARENT), ("tracestate", b"a=1\r\nreason: x")], [("traceparent", PARENT)]),
    ([("traceparent", PARENT), ("tracestate", None)], [("traceparent", PARENT)]),
    ([("Traceparent", PARENT)], None),
]


@pytest.fixture(scope="module")
def carried(spark: SparkSession) -> list[list[tuple[str, bytes]] | None]:
    frame = spark.createDataFrame(
        [(i, given) for i, (given, _) in enumerate(CASES)], "i INT, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
    )
    rows = frame.select("i", predictions.trace(frame["headers"]).alias("kept")).orderBy("i").collect()
    return [None if row["kept"] is None else [(h["key"], bytes(h["value"])) for h in row["kept"]] for row in rows]


@pytest.mark.parametrize("i", range(len(CASES)))
def test_what_is_handed_on(carried: list[list[tuple[str, bytes]] | None], i: int) -> None:
    assert carried[i] == CASES[i][1]
    assert sum(len(name) + len(value) + 20 for name, value in carried[i] or ()) <= predictions.TRACE_BYTES
