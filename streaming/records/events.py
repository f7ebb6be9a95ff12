"""Events as they stand on a topic, decoded into columns for a model: pure DataFrame functions, for streams and batches alike.

No event vanishes here: one record gives one row. What cannot be decoded keeps its bytes and gets a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from streaming.config.sections import Events
from streaming.errors import ConfigError

#: Where a row came from, and the column that says what is wrong with it; every other column is the event's own.
META: Final = "_event"
PROBLEM: Final = "_problem"

_CORRUPT: Final = "_corrupt"

#: A brace that may close the object, and something behind it.
_MORE: Final = r"\}\s*(,\s*[^\s\"]|[^\s,}\]])"

#: Above this an epoch is in milliseconds: as seconds it would be the year 5138, as milliseconds it is March 1973.
_MILLISECONDS_FROM: Final = 1e11
#: The last microsecond of the year 9999, in seconds; the JSON of a prediction has four-digit years.
_LAST_SECOND: Final = 253_402_300_799.0
_FIRST_SECOND: Final = -62_135_596_800.0

_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?$"


def schema(spark: SparkSession, events: Events, *, source: str = "config") -> StructType:
    """The event schema of the config as Spark types. ConfigError when the DDL, a path or a field's type is wrong."""
    try:
        parsed = cast(StructType, StructType.fromDDL(events.ddl))
    except PySparkException as broken:
        first = str(broken).strip().splitlines()[0]
        raise ConfigError(f"{source}: events.schema: not a Spark DDL string: {first}; expected such as 'id STRING, tenure INT'") from broken
    reserved = [name for name in parsed.fieldNames() if name.lower() in {META, PROBLEM, _CORRUPT}]
    if reserved:
        raise ConfigError(f"{source}: events.schema: {reserved[0]} is a name the service keeps for itself; use events.columns to rename it")
    twice = _twice(parsed.fieldNames())
    if twice is not None:
        raise ConfigError(f"{source}: events.schema: the field {twice} is there twice; upper and lower case are the same to Spark")
    for where, path in [("key", events.key), ("time", events.time), *((f"columns.{name}", path) for name, path in events.columns.items())]:
        if path is not None:
            _check(where, path, field(parsed, path), parsed, source)
    clash = set(map(str.lower, events.columns)) & {name.lower() for name in parsed.fieldNames()}
    if clash:
        raise ConfigError(f"{source}: events.columns.{sorted(clash)[0]}: the event already has a field of that name")
    taken = [name for name in events.columns if name.lower() in {META, PROBLEM}]
    if taken:
        raise ConfigError(f"{source}: events.columns.{taken[0]}: a name the service keeps for itself; choose another")
    twice = _twice(list(events.columns))
    if twice is not None:
        raise ConfigError(f"{source}: events.columns.{twice}: is there twice; upper and lower case are the same to Spark")
    return parsed


def _twice(names: Sequence[str]) -> str | None:
    """The first name that repeats an earlier one, but for upper and lower case."""
    return next((name for i, name in enumerate(names) if name.lower() in map(str.lower, names[:i])), None)


def columns(parsed: StructType, events: Events) -> StructType:
    """The columns a model sees: the event's top-level fields, and the nested ones that `events.columns` lifts up."""
    lifted = [StructField(name, found.dataType) for name, path in events.columns.items() if (found := field(parsed, path)) is not None]
    return StructType([*parsed.fields, *lifted])


def field(parsed: StructType, path: str) -> StructField | None:
    """The field at a dotted path, or None. Case counts, as it does in JSON."""
    found: StructField | None = None
    level: DataType = parsed
    for part in path.split("."):
        if not isinstance(level, StructType):
            return None
        found = next((f for f in level.fields if f.name == part), None)
        if found is None:
            return None
        level = found.dataType
    return found


def field_column(parsed: StructType, path: str) -> Column:
    """The column at a dotted path of a decoded event."""
    assert field(parsed, path) is not None, path
    return F.col(".".join(f"`{part}`" for part in path.split(".")))


def _check(where: str, path: str, found: StructField | None, parsed: StructType, source: str) -> None:
    if found is None:
        raise ConfigError(f"{source}: events.{where}: the schema has no field {path!r}; its fields: {', '.join(_paths(parsed))}")
    if where == "key" and isinstance(found.dataType, StructType | ArrayType | MapType):
        raise ConfigError(f"{source}: events.key: {path} is a {found.dataType.simpleString()}; expected a text, a number or the like")
    usable = StringType | IntegralType | DoubleType | FloatType | DecimalType | TimestampType | TimestampNTZType | DateType
    if where == "time" and not isinstance(found.dataType, usable):
        raise ConfigError(f"{source}: events.time: {path} is a {found.dataType.simpleString()}; expected STRING, a number or TIMESTAMP")


def _paths(parsed: StructType, prefix: str = "") -> list[str]:
    found: list[str] = []
    for f in parsed.fields:
        found += _paths(f.dataType, f"{prefix}{f.name}.") if isinstance(f.dataType, StructType) else [prefix + f.name]
    return found


def decode(records: DataFrame, events: Events, parsed: StructType) -> DataFrame:
    """Kafka records as events: one row a record, with the event's fields as columns, and two columns more.

    `records` has Spark's Kafka columns key, value, topic, partition, offset, timestamp. `_event` holds the original
    `raw_key` and `raw_value`, topic, partition, offset, timestamp, the entity's `key` and the `event_time`.
    `_problem` is null on a good row; on a bad one it holds `reason`, a word, and `error`, and the event's own columns
    may be null.
    """
    text = F.col("value").cast("string")
    corrupt = StructType([*parsed.fields, StructField(_CORRUPT, StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
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


def type_at(parsed: StructType, path: str) -> DataType:
    """The declared type at a dotted path."""
    found = field(parsed, path)
    assert found is not None, path  # schema() has checked every path
    return found.dataType


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
    corrupt = F.col("json").isNull() | F.col(f"json.{_CORRUPT}").isNotNull()
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
    found = (
        F.when(no_value, say("null_value", "the record has no value (a tombstone)"))
        .when(bad_text, say("invalid_utf8", "the value is not UTF-8 text"))
        .when(corrupt & not_json, say("malformed_json", "the value is not JSON"))
        .when(corrupt, say("wrong_type", F.concat_ws(" ", F.lit("the value is not one JSON object of the event schema"), *wrong)))
        .when(more, say("malformed_json", "something stands behind the JSON object; expected one object in a record"))
    )
    return without_place(found, events, key=F.col("key"), time=F.col("event_time"))


def without_place(found: Column, events: Events, *, key: Column, time: Column) -> Column:
    """The complaints `found` so far (a CASE), and then: the event does not say whom it is about, or when it was."""
    no_time = f"{events.time} is missing or is neither ISO 8601 nor an epoch of the years 1 to 9999"
    blank = key.isNull() | (F.trim(key) == "")
    return found.when(blank, say("missing_key", f"the event has no {events.key}")).when(time.isNull(), say("unparsable_time", no_time))


def say(reason: str, error: str | Column) -> Column:
    """What is wrong with a record, STRUCT<reason, error>."""
    words = error if isinstance(error, Column) else F.lit(error)
    return F.struct(F.lit(reason).alias("reason"), words.alias("error"))
