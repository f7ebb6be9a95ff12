"""Events as they stand on a topic, decoded into columns for a model: pure DataFrame functions, for streams and batches alike.

No event vanishes here: one record gives one row. What cannot be decoded keeps its bytes and gets a reason.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, StringType, StructField, StructType, TimestampNTZType, TimestampType, VariantType

from streaming.config.sections import Events
from streaming.config.values import interval
from streaming.records import decimals
from streaming.records.schema import CORRUPT, META, PROBLEM, type_at

#: A brace that may close the object, and something behind it.
_MORE: Final = r"\}\s*(,\s*[^\s\"]|[^\s,}\]])"

#: Above this an epoch is in milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973.
_MILLISECONDS_FROM: Final = 1e11
#: A number is an epoch only from 1990-01-01 to before 2100-01-01, in seconds: a date without hyphens (20260101) is none, nor one with
#: its time (20260101120000).
_FIRST_EPOCH: Final = 631_152_000.0
_LAST_EPOCH: Final = 4_102_444_800.0

#: Where Spark's Kafka source puts the headers of a record, which are null when it has none.
HEADERS: Final = "array<struct<key: string, value: binary>>"

_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?$"
#: The basic format of ISO 8601, with or without its T.
_BASIC: Final = r"^\d{8}(T\d{4}(\d{2}(\.\d{1,9})?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?|\d{6})?$"
#: What puts the hyphens and colons in: year, month and day; hours and minutes; seconds.
_EXTENDED: Final = ((r"^(\d{4})(\d{2})(\d{2})T?", "$1-$2-$3 "), (r"^(.{13})(\d{2})", "$1:$2"), (r"^(.{16})(\d{2})", "$1:$2"))


def decode(records: DataFrame, events: Events, parsed: StructType) -> DataFrame:
    """Kafka records as events: one row a record, with the event's fields as columns, and two columns more.

    `records` has Spark's Kafka columns key, value, topic, partition, offset, timestamp, and perhaps headers. `_event` holds the
    original `raw_key`, `raw_value` and `headers`, topic, partition, offset, timestamp, the entity's `key` and the `event_time`.
    `_problem` is null on a good row; on a bad one it holds `reason`, a word, and `error`, and the event's own columns
    may be null.
    """
    text = F.col("value").cast("string")
    corrupt = StructType([*parsed.fields, StructField(CORRUPT, StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    valid = records.select(original(records).alias("r"), F.when(F.is_valid_utf8(text), text).alias("text"))
    endless = decimals.endless(F.col("text"), parsed)
    readable = F.col("text") if endless is None else F.when(~endless, F.col("text"))
    read = valid.select("r", "text", F.from_json(readable, corrupt, options).alias("json"))

    def at(path: str) -> Column:
        return F.col("json." + ".".join(f"`{part}`" for part in path.split(".")))

    stamp = F.col("r.timestamp") if events.time is None else event_time(at(events.time), type_at(parsed, events.time))
    keyed = read.select("r", "text", "json", key_text(at(events.key), type_at(parsed, events.key)).alias("key"), stamp.alias("event_time"))
    keyed = keyed.withColumn("event_time", in_years(F.col("event_time")))
    meta = F.struct(
        *(F.col(f"r.{name}") for name in ("topic", "partition", "offset", "timestamp", "raw_key", "raw_value", "headers")),
        "key",
        "event_time",
    )
    fields = [F.col(f"json.`{name}`").alias(name) for name in parsed.fieldNames()]
    lifted = [at(path).alias(name) for name, path in events.columns.items()]
    return keyed.select(meta.alias(META), _problem(events, parsed).alias(PROBLEM), *fields, *lifted)


def original(records: DataFrame) -> Column:
    """A record as it came, STRUCT<topic, partition, offset, timestamp, raw_key, raw_value, headers>."""
    headers = F.col("headers") if "headers" in records.columns else F.lit(None).cast(HEADERS)
    place = ("topic", "partition", "offset", "timestamp")
    return F.struct(*place, F.col("key").alias("raw_key"), F.col("value").alias("raw_value"), headers.alias("headers"))


def key_text(value: Column, declared: DataType) -> Column:
    """The entity's name as text, or null when it has none: an object in a VARIANT is no name."""
    return value.try_cast("string") if isinstance(declared, VariantType) else value.cast("string")


def event_time(value: Column, declared: DataType) -> Column:
    """The time in `value` as TIMESTAMP, or null when it cannot be read.

    TIMESTAMP stays; a number of the years 1990 to 2099 is epoch seconds, or milliseconds from 1e11 on; text is ISO 8601 (UTC when
    it names no zone), in the extended or the basic format, or such a number.
    """
    if isinstance(declared, DateType):
        # A timestamp cannot hold every date, and a cast of what it cannot hold would end the query, not the row.
        return F.when(value.between(F.lit("0001-01-01").cast("date"), F.lit("9999-12-31").cast("date")), value.cast("timestamp"))
    if isinstance(declared, TimestampType | TimestampNTZType):
        return value.cast("timestamp")
    if isinstance(declared, StringType):
        iso = F.when(value.rlike(_ISO), value.try_cast("timestamp")).when(value.rlike(_BASIC), _extended(value).try_cast("timestamp"))
        return iso.otherwise(_epoch(value.try_cast("double")))
    return _epoch(value.cast("double"))


def _extended(basic: Column) -> Column:
    for pattern, replacement in _EXTENDED:
        basic = F.regexp_replace(basic, pattern, replacement)
    return basic


def in_years(time: Column) -> Column:
    """`time`, or null outside the years 1 to 9999."""
    known = time.between(F.lit("0001-01-01").cast("timestamp"), F.lit("9999-12-31 23:59:59.999999").cast("timestamp"))
    return F.when(known, time)


def _epoch(number: Column) -> Column:
    in_s = F.when(F.abs(number) >= _MILLISECONDS_FROM, number / 1000.0).otherwise(number)
    # The bounds come first: a cast of a number that no timestamp can hold would end the query, not the row.
    return F.when((in_s >= _FIRST_EPOCH) & (in_s < _LAST_EPOCH), F.timestamp_micros(F.round(in_s * 1e6).cast("bigint")))


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
        .when(
            _endless(parsed),
            say("wrong_type", "a number has an exponent of four digits, or a thousand digits: no DECIMAL of the event schema holds it"),
        )
        .when(corrupt & not_json, say("malformed_json", "the value is not JSON"))
        .when(corrupt, say("wrong_type", F.concat_ws(" ", F.lit("the value is not one JSON object of the event schema"), *wrong)))
        .when(more, say("malformed_json", "something stands behind the JSON object; expected one object in a record"))
    )
    return without_place(problem, events, key=F.col("key"), time=F.col("event_time"), stamp=F.col("r.timestamp"))


def _endless(parsed: StructType) -> Column:
    """Whether the text was not read at all, see :mod:`streaming.records.decimals`."""
    endless = decimals.endless(F.col("text"), parsed)
    return F.lit(False) if endless is None else F.col("json").isNull() & endless


def without_place(reason: Column, events: Events, *, key: Column, time: Column, stamp: Column) -> Column:
    """The complaints so far, `reason` (a CASE), and then: the event does not say whom it is about, or when it was.

    `stamp`: the record's own timestamp, which an event time may be ahead of by `events.max_future`.
    """
    no_time = f"{events.time} is missing or is neither ISO 8601 (years 1 to 9999) nor an epoch in seconds or milliseconds (1990 to 2099)"
    blank = key.isNull() | (F.trim(key) == "")
    reason = reason.when(blank, say("missing_key", f"the event has no {events.key}")).when(time.isNull(), say("unparsable_time", no_time))
    if events.time is None or events.max_future is None:
        return reason
    ahead = f"{events.time} is more than {events.max_future} (max_future) ahead of the record's own timestamp"
    return reason.when(in_future(time, stamp, events.max_future), say("future_time", ahead))


def in_future(time: Column, stamp: Column, max_future: str) -> Column:
    """True when `time` is further ahead of `stamp`, the timestamp of its record, than a clock can be wrong."""
    return time > stamp + F.expr(f"INTERVAL {interval(max_future)}")


def say(reason: str, error: str | Column) -> Column:
    """What is wrong with a record, STRUCT<reason, error>."""
    words = error if isinstance(error, Column) else F.lit(error)
    return F.struct(F.lit(reason).alias("reason"), words.alias("error"))
