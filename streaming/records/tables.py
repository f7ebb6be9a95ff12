"""Rows of a table as decoded events, so that a batch goes through the same model and the same judgement as the stream.

What a table says in columns needs no JSON: a column that has its declared type already is taken as it is, any other is
cast, and a value that the cast cannot read makes the row a rejected one, as on the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NullType, StringType, StructType

from streaming.config.sections import Events
from streaming.errors import ConfigError
from streaming.records.events import event_time, in_years, say, without_place
from streaming.records.schema import CORRUPT, META, PROBLEM, field_column, type_at

#: The values as they stood, of the columns that had to be cast; only a rejected row shows them.
ORIGINAL: Final = "_original"


def decode(rows: DataFrame, events: Events, parsed: StructType, *, where: Mapping[str, Column]) -> DataFrame:
    """The rows with the columns that :func:`streaming.records.events.decode` gives: `_event`, `_problem` and the event's fields.

    `where` has columns for topic (the file), partition and offset, which together name the row, and timestamp. A field of the schema that the
    table does not have is null everywhere. ConfigError when the table lacks the key or the time.
    """
    actual = {name.lower(): name for name in rows.columns}
    types = {name: rows.schema[given_type].dataType for name in parsed.fieldNames() if (given_type := actual.get(name.lower())) is not None}
    for what, path in (("key", events.key), ("time", events.time)):
        if path is not None and path.split(".")[0] not in types:
            raise ConfigError(f"the input has no column {path.split('.')[0]} (events.{what}); its columns: {', '.join(rows.columns)}")
    given = {name: F.col(f"`{actual[name.lower()]}`") for name in types}
    cast = {name for name, given_type in types.items() if not _same(given_type, parsed[name].dataType)}
    fields = {f.name: _as(given.get(f.name), types.get(f.name), f.dataType) for f in parsed.fields}
    corrupt = F.col(CORRUPT) if CORRUPT in rows.columns else F.lit(None).cast("string")
    original = F.struct(*(given[name].alias(name) for name in sorted(cast))) if cast else F.lit(None).cast("struct<none: string>")
    own = ("topic", "partition", "offset")
    read = rows.select(
        F.struct(*(where[name].alias(name) for name in (*own, "timestamp"))).alias("_where"),
        corrupt.alias(CORRUPT),
        original.alias(ORIGINAL),
        *(column.alias(name) for name, column in fields.items()),
    )

    stamp = (
        F.col("_where.timestamp") if events.time is None else event_time(field_column(parsed, events.time), type_at(parsed, events.time))
    )
    meta = F.struct(
        *(F.col(f"_where.{name}").alias(name) for name in own),
        field_column(parsed, events.key).cast("string").alias("key"),
        in_years(stamp).alias("event_time"),
    )
    lifted = [field_column(parsed, path).alias(name) for name, path in events.columns.items() if name not in parsed.fieldNames()]
    marked = read.select("*", meta.alias(META))
    problem = _problem(events, parsed, cast)
    return marked.select(META, problem.alias(PROBLEM), ORIGINAL, CORRUPT, *(F.col(f"`{name}`") for name in parsed.fieldNames()), *lifted)


def value(parsed: StructType, original: DataType) -> Column:
    """The row as JSON text, with the values as the table had them."""
    kept = set(original.fieldNames()) if isinstance(original, StructType) else set()
    fields = [F.col(f"{ORIGINAL}.`{name}`" if name in kept else f"`{name}`").alias(name) for name in parsed.fieldNames()]
    return F.coalesce(F.col(CORRUPT), F.to_json(F.struct(*fields)))


def _problem(events: Events, parsed: StructType, cast: set[str]) -> Column:
    """As `streaming.records.events` judges a record: the same words for the same faults."""
    wrong = [
        F.when(
            F.col(f"{ORIGINAL}.`{name}`").isNotNull() & F.col(f"`{name}`").isNull(),
            F.lit(f"{name} (expected {parsed[name].dataType.simpleString()})"),
        )
        for name in sorted(cast)
    ]
    problem = F.when(F.col(CORRUPT).isNotNull(), say("malformed_csv", "the line has not as many columns as the header"))
    if wrong:
        words = F.concat_ws(" ", F.lit("the value is not of the event schema"), *wrong)
        problem = problem.when(F.coalesce(*wrong).isNotNull(), say("wrong_type", words))
    return without_place(problem, events, key=F.col(f"{META}.key"), time=F.col(f"{META}.event_time"))


def _same(given: DataType, declared: DataType) -> bool:
    return given.simpleString() == declared.simpleString()


def _as(given: Column | None, given_type: DataType | None, declared: DataType) -> Column:
    if given is None or given_type is None or isinstance(given_type, NullType):
        return F.lit(None).cast(declared)
    if _same(given_type, declared):
        return given
    if isinstance(given_type, StringType) and isinstance(declared, StructType):
        return F.from_json(given, declared)
    return given.try_cast(declared)
