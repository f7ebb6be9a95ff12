"""Rows for checks of a store, and what a store must hold after them as a pure function."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from streaming.errors import TransientError
from streaming.records.predictions import NEWEST, STORED
from streaming.stores.base import Store

Row = dict[str, Any]
_START: Final = datetime(2024, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
_ARROW: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source_partition", pa.int32(), nullable=False),
        pa.field("source_offset", pa.int64(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("prediction", pa.float64(), nullable=False),
        pa.field("probability", pa.list_(pa.float64())),
        pa.field("scored_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
#: How often a batch is repeated when the store says TransientError, as a restarted lane would.
_ATTEMPTS: Final = 10


def prediction(key: str = "a", *, seconds: float = 0.0, offset: int = 0, partition: int = 0, scored_ms: int = 0, **other: Any) -> Row:
    """One row of STORED; `other` replaces single fields. Its value tells by itself which write it came from."""
    row: Row = {
        "key": key,
        "model": "champion",
        "event_time": _START + timedelta(seconds=seconds),
        "source_partition": partition,
        "source_offset": offset,
        "event_id": f"events:{partition}:{offset}",
        "model_version": "1",
        "prediction": seconds + offset / 1_000 + scored_ms / 1_000_000,
        "probability": [0.25, 0.75],
        "scored_at": _START + timedelta(seconds=seconds, milliseconds=scored_ms),
    }
    return row | other


def frame(spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
    """The rows as a DataFrame of STORED."""
    return spark.createDataFrame(pa.Table.from_pylist(list(rows), schema=_ARROW), schema=STORED)


def write(store: Store, spark: SparkSession, batches: Iterable[Sequence[Row]], *, first: int = 0) -> None:
    """Upsert batch after batch, each again while the store says TransientError: what the lane and its supervisor do."""
    for number, rows in enumerate(batches, start=first):
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                store.upsert(frame(spark, rows), number)
                break
            except TransientError:
                if attempt == _ATTEMPTS:
                    raise


def order(row: Row) -> tuple[Any, ...]:
    """What decides which of two rows of one (key, model) is newer."""
    return tuple(row[name] for name in NEWEST)


def newest(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """The contract in one function: what a store must hold after it was given these rows, in whatever order."""
    held: dict[tuple[str, str], Row] = {}
    for row in rows:
        name = (row["key"], row["model"])
        if name not in held or order(row) > order(held[name]):
            held[name] = row
    return held


def same(got: object, expected: object) -> bool:
    """Equal, down to the last bit of a double; NaN equals NaN and the two zeros are equal."""
    if isinstance(expected, float):
        if not isinstance(got, float):
            return False
        return struct.pack(">d", got) == struct.pack(">d", expected) or got == expected or (math.isnan(got) and math.isnan(expected))
    if isinstance(expected, list):
        return isinstance(got, list) and len(got) == len(expected) and all(map(same, got, expected))
    return type(got) is type(expected) and got == expected


def expect(store: Store, rows: Iterable[Row]) -> None:
    """The store holds what :func:`newest` says, and nothing else."""
    held = newest(rows)
    for key in sorted({key for key, _ in held}):
        expected = [held[name] for name in sorted(held) if name[0] == key]
        got = store.get(key)
        assert [row.get("model") for row in got] == [row["model"] for row in expected], (
            f"key {key!r:.60}: models {[row.get('model') for row in got]}"
        )
        for given, wanted in zip(got, expected, strict=True):
            wrong = {name: (given.get(name), wanted[name]) for name in wanted if not same(given.get(name), wanted[name])}
            assert not wrong, f"key {key!r:.60}: (got, expected) {wrong}"
            assert set(given) == set(wanted), f"fields {sorted(given)}"
    assert store.count() == len(held), f"count {store.count()}, expected {len(held)}"
