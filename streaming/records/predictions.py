"""Predictions, written and parsed here only: their fields are the contract with consumers.

A prediction is JSON with the fields of :data:`PREDICTION`; its Kafka key is the entity key, so one entity stays in
order in one partition.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, IntegerType, LongType, StringType, StructField, StructType, TimestampType

#: A prediction as it stands on the predictions topic. `event_id` is "topic:partition:offset" of the event.
#: `probability` is null unless the model is a classifier; `features` is null unless a learner needs it, `label` unless the event carried its own.
#: `model_version`, `prediction` and `probability` are null while a learner has learned nothing yet.
PREDICTION: Final = StructType(
    [
        StructField("event_id", StringType()),
        StructField("key", StringType()),
        StructField("event_time", TimestampType()),
        StructField("model", StringType()),
        StructField("model_version", StringType()),
        StructField("prediction", DoubleType()),
        StructField("probability", ArrayType(DoubleType())),
        StructField("features", ArrayType(DoubleType())),
        StructField("label", DoubleType()),
    ]
)

#: What a store is asked to keep: one row per (key, model). The row with the greatest
#: (event_time, source_partition, source_offset, scored_at) is the newest and stands.
#: `scored_at` is the Kafka timestamp of the prediction record. Only `probability` may be null.
STORED: Final = StructType(
    [
        StructField("key", StringType(), nullable=False),
        StructField("model", StringType(), nullable=False),
        StructField("event_time", TimestampType(), nullable=False),
        StructField("source_partition", IntegerType(), nullable=False),
        StructField("source_offset", LongType(), nullable=False),
        StructField("event_id", StringType(), nullable=False),
        StructField("model_version", StringType(), nullable=False),
        StructField("prediction", DoubleType(), nullable=False),
        StructField("probability", ArrayType(DoubleType()), nullable=True),
        StructField("scored_at", TimestampType(), nullable=False),
    ]
)

#: The columns that order two rows of the same (key, model): the greater tuple is the newer row.
NEWEST: Final = ("event_time", "source_partition", "source_offset", "scored_at")

#: How a timestamp is written in JSON: ISO 8601, UTC, microseconds, so that nothing is lost on the way to the store.
TIMESTAMP_FORMAT: Final = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"

#: Bytes of a DOUBLE in JSON with its comma, at most: a negative one with all digits and an exponent.
LONGEST_NUMBER: Final = 25

#: The headers that tell which trace a record belongs to, and their form (https://www.w3.org/TR/trace-context): version ff and
#: numbers that are all zero mean nothing.
TRACE: Final = {
    "traceparent": r"^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\z",  # $ is also before a last line's end
    "tracestate": r"^[\x20-\x7e]{1,512}\z",
}
#: What they take in a record at most, with their names and lengths.
TRACE_BYTES: Final = 640

#: "topic:partition:offset"; a topic name has no colon.
_EVENT_ID: Final = r"^([^:]+):(\d{1,9}):(\d{1,18})$"
_OPTIONS: Final = {"mode": "PERMISSIVE", "timestampFormat": TIMESTAMP_FORMAT}


@dataclass(frozen=True)
class Place:
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """The event_id of the predictions made of the record."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, event_id: str) -> Place:
        """The place that an event_id names. ValueError when it names none."""
        return cls(*split(event_id))


def split(event_id: str) -> tuple[str, int, int]:
    """Topic, partition and offset of an event_id. ValueError when it is none."""
    parts = re.fullmatch(r"(.+):(\d+):(\d+)", event_id, re.ASCII)
    if parts is None:
        raise ValueError(f"{event_id}: expected topic:partition:offset, as event_id in a prediction has it")
    return parts[1], int(parts[2]), int(parts[3])


def event_id(place: Column) -> Column:
    """The event_id of a record; `place` is a struct with its topic, partition and offset."""
    return F.concat_ws(":", place["topic"], place["partition"], place["offset"])


def position(event_id: Column) -> tuple[Column, Column]:
    """Partition (INT) and offset (BIGINT) that an event_id names; null when it is none."""
    return F.regexp_extract(event_id, _EVENT_ID, 2).try_cast("int"), F.regexp_extract(event_id, _EVENT_ID, 3).try_cast("bigint")


def trace(headers: Column) -> Column:
    """Of an event's headers those that a prediction hands on: W3C's trace context, null when there is no traceparent.

    Of several with one name the last counts, as Kafka's clients have it. What is not of its form is left out, so that no
    producer can make a prediction longer than TRACE_BYTES more.
    """
    # Without a lambda over the headers: those keep a projection out of Spark's generated code.
    names, values = F.reverse(headers["key"]), F.reverse(headers["value"])

    def last(name: str, form: str) -> Column:
        value = F.get(values, (F.array_position(names, F.lit(name)) - 1).cast("int"))
        return F.when(value.cast("string").rlike(form), F.struct(F.lit(name).alias("key"), value.alias("value")))

    parent, state = (last(name, form) for name, form in TRACE.items())
    kept = F.when(state.isNull(), F.array(parent)).otherwise(F.array(parent, state))
    return F.when(F.size(headers) > 0, F.when(parent.isNotNull(), kept))


def write(fields: Mapping[str, Column]) -> Column:
    """The JSON text of a prediction; null fields are left out. `fields`: those of PREDICTION, or some of them."""
    named = (fields[name].alias(name) for name in PREDICTION.fieldNames() if name in fields)
    return F.to_json(F.struct(*named), {"timestampFormat": TIMESTAMP_FORMAT})


def parse(value: Column) -> Column:
    """The bytes of a record as a STRUCT of PREDICTION: null when they are no text, fields that cannot be read are null."""
    text = value.cast("string")
    return F.when(F.is_valid_utf8(text), F.from_json(text, PREDICTION, _OPTIONS))


def parse_value(value: bytes | str) -> dict[str, Any]:
    """The same outside Spark: every field of PREDICTION, those that were left out as None, the time as text. ValueError when it is none."""
    said = json.loads(value)
    if not isinstance(said, dict) or "event_id" not in said:
        raise ValueError("not a prediction: expected a JSON object with an event_id")
    return {name: said.get(name) for name in PREDICTION.fieldNames()}
