"""Events as they stand on a topic, decoded into columns for a model: pure DataFrame functions, for streams and batches alike.

No event vanishes here: one record gives one row. What cannot be decoded keeps its bytes and gets a reason.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, StringType, StructField, StructType, TimestampNTZType, TimestampType

from streaming.config.sections import Events
from streaming.records.schema import CORRUPT, META, PROBLEM, type_at

#: A brace that may close the object, and something behind it.
_MORE: Final = r"\}\s*(,\s*[^\s\"]|[^\s,}\]])"

#: Above this an epoch is in milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973.
_MILLISECONDS_FROM: Final = 1e11
#: The last microsecond of the year 9999, in seconds; the JSON of a prediction has four-digit years.
_LAST_SECOND: Final = 253_402_300_799.0
_FIRST_SECOND: Final = -62_135_596_800.0

_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?$"


def decode(records: DataFrame, events: Events, parsed: StructType) -> DataFrame:
    """Kafka records as events: one row a record, with the event's fields as columns, and two columns more.

    `records` has Spark's Kafka columns key, value, topic, partition, offset, timestamp. `_event` holds the original
    `raw_key` and `raw_value`, topic, partition, offset, timestamp, the entity's `key` and the `event_time`.
    `_problem` is null on a good row; on a bad one it holds `reason`, a word, and `error`, and the event's own columns
    may be null.
    """
    text = F.col("value").cast("string")
    corrupt = StructType([*parsed.fields, StructField(CORRUPT, StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    read = records.select(
        F.struct("topic", "partition", "offset", "timestamp", F.col("key").alias("raw_key"), F.col("value").alias("raw_value")).alias("r"),
        F.when(F.is_valid_utf8(text), text).alias("text"),
    ).select("r", "text", F.from_json("text", corrupt, options).alias("json"))

    def at(path: str) -> Column:
        return F.col("json." + ".".join(f"`{part}`" for part in path.split(".")))

    stamp = F.col("r.timestamp") if events.time is None else event_time(at(events.time), type_at(parsed, events.time))
    keyed = read.select("r", "text", "json", at(events.key).cast("string").alias("key"), stamp.alias("event_time"))
    keyed = keyed.withColumn("event_time", in_years(F.col("event_time")))
    meta = F.struct(
        *(F.col(f"r.{name}") for name in ("topic", "partition", "offset", "timestamp", "raw_key", "raw_value")), "key", "event_time"
    )
    fields = [F.col(f"json.`{name}`").alias(name) for name in parsed.fieldNames()]
    lifted = [at(path).alias(name) for name, path in events.columns.items()]
    return keyed.select(meta.alias(META), _problem(events, parsed).alias(PROBLEM), *fields, *lifted)


def event_time(value: Column, declared: DataType) -> Column:
    """The time in `value` as TIMESTAMP, or null when it cannot be read.

    TIMESTAMP stays; a number is epoch seconds, or milliseconds from 1e11 on; text is ISO 8601 (UTC when it names
    no zone), or such a number.
    """
    if isinstance(declared, TimestampType | TimestampNTZType | DateType):
        return value.cast("timestamp")
    if isinstance(declared, StringType):
        return F.when(value.rlike(_ISO), value.try_cast("timestamp")).otherwise(_epoch(value.try_cast("double")))
    return _epoch(value.cast("double"))


def in_years(time: Column) -> Column:
    """`time`, or null outside the years 1 to 9999."""
    known = time.between(F.lit("0001-01-01").cast("timestamp"), F.lit("9999-12-31 23:59:59.999999").cast("timestamp"))
    return F.when(known, time)


def _epoch(number: Column) -> Column:
    in_s = F.when(F.abs(number) >= _MILLISECONDS_FROM, number / 1000.0).otherwise(number)
    # The bounds come first: a cast of a number that no timestamp can hold would end the query, not the row.
    return F.when(in_s.between(_FIRST_SECOND, _LAST_SECOND), F.timestamp_micros(F.round(in_s * 1e6).cast("bigint")))


def _problem(events: Events, parsed: StructType) -> Column:
    """What is wrong with a record, STRUCT<reason, error>; null when nothing is. The first complaint stands.

    One expression, and a column of its own: where Spark can see into a struct it copies the whole of this into every
    place that asks for a field, and planning takes minutes.
    """
    no_value, bad_text = F.col("r.raw_value").isNull(), F.col("text").isNull()
    corrupt = F.col("json").isNull() | F.col(f"json.{CORRUPT}").isNotNull()
    not_json = F.try_parse_json("text").isNull()
    # Spark reads the first JSON value and ignores the rest, which would lose the second of two events in one record.
    # Only a text that looks like it is parsed once more, as the one element of an array.
    whole = F.try_parse_json(F.concat(F.lit("["), F.col("text"), F.lit("]")))
    more = F.when(F.col("text").rlike(_MORE), whole.isNull() | F.try_variant_get(whole, "$[1]", "variant").isNotNull())
    wrong = [
        F.when(
            F.col(f"json.`{f.name}`").isNull() & F.get_json_object("text", f"$['{f.name}']").isNotNull(),
            F.lit(f"{f.name} (expected {f.dataType.simpleString()})"),
        )
        for f in parsed.fields
    ]
    problem = (
        F.when(no_value, say("null_value", "the record has no value (a tombstone)"))
        .when(bad_text, say("invalid_utf8", "the value is not UTF-8 text"))
        .when(corrupt & not_json, say("malformed_json", "the value is not JSON"))
        .when(corrupt, say("wrong_type", F.concat_ws(" ", F.lit("the value is not one JSON object of the event schema"), *wrong)))
        .when(more, say("malformed_json", "something stands behind the JSON object; expected one object in a record"))
    )
    return without_place(problem, events, key=F.col("key"), time=F.col("event_time"))


def without_place(found: Column, events: Events, *, key: Column, time: Column) -> Column:
    """The complaints `found` so far (a CASE), and then: the event does not say whom it is about, or when it was."""
    no_time = f"{events.time} is missing or is neither ISO 8601 nor an epoch of the years 1 to 9999"
    blank = key.isNull() | (F.trim(key) == "")
    return found.when(blank, say("missing_key", f"the event has no {events.key}")).when(time.isNull(), say("unparsable_time", no_time))


def say(reason: str, error: str | Column) -> Column:
    """What is wrong with a record, STRUCT<reason, error>."""
    words = error if isinstance(error, Column) else F.lit(error)
    return F.struct(F.lit(reason).alias("reason"), words.alias("error"))
