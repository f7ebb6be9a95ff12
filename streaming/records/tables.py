"""Rows of a table as decoded events, so that a batch goes through the same model and the same judgement as the stream.

What a table says in columns needs no JSON: a column that has its declared type already is taken as it is, any other is
cast, and a value that the declared type cannot hold as it is makes the row a rejected one, as on the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from streaming.config.sections import Events
from streaming.errors import ConfigError
from streaming.records.casts import Cast, cast, same
from streaming.records.events import event_time, in_years, key_text, say, without_place
from streaming.records.schema import CORRUPT, META, PROBLEM, field_column, type_at

#: The values as they stood, of the columns that had to be cast; only a rejected row shows them.
ORIGINAL: Final = "_original"
#: The columns that hold a value which is not of their declared type, in words.
_WRONG: Final = "_wrong"


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
    changed = {name for name, given_type in types.items() if not same(given_type, parsed[name].dataType)}
    parts = {f.name: _cast(given.get(f.name), types.get(f.name), f.dataType) for f in parsed.fields}
    wrong = [F.when(parts[name].failed, F.lit(f"{name} (expected {parsed[name].dataType.simpleString()})")) for name in sorted(changed)]
    corrupt = F.col(CORRUPT) if CORRUPT in rows.columns else F.lit(None).cast("string")
    original = F.struct(*(given[name].alias(name) for name in sorted(changed))) if changed else F.lit(None).cast("struct<none: string>")
    own = ("topic", "partition", "offset")
    try:
        read = rows.select(
            F.struct(*(where[name].alias(name) for name in (*own, "timestamp"))).alias("_where"),
            corrupt.alias(CORRUPT),
            original.alias(ORIGINAL),
            F.concat_ws(" ", *wrong).alias(_WRONG),
            *(part.value.alias(name) for name, part in parts.items()),
        )
    except AnalysisException as impossible:
        first = str(impossible).strip().splitlines()[0]
        raise ConfigError(
            f"the input's columns do not fit events.schema: {first}; its columns: {rows.schema.simpleString()}"
        ) from impossible

    stamp = (
        F.col("_where.timestamp") if events.time is None else event_time(field_column(parsed, events.time), type_at(parsed, events.time))
    )
    meta = F.struct(
        *(F.col(f"_where.{name}").alias(name) for name in (*own, "timestamp")),
        key_text(field_column(parsed, events.key), type_at(parsed, events.key)).alias("key"),
        in_years(stamp).alias("event_time"),
    )
    lifted = [field_column(parsed, path).alias(name) for name, path in events.columns.items() if name not in parsed.fieldNames()]
    marked = read.select("*", meta.alias(META))
    problem = _problem(events)
    return marked.select(META, problem.alias(PROBLEM), ORIGINAL, CORRUPT, *(F.col(f"`{name}`") for name in parsed.fieldNames()), *lifted)


def value(parsed: StructType, original: DataType) -> Column:
    """The row as JSON text, with the values as the table had them."""
    kept = set(original.fieldNames()) if isinstance(original, StructType) else set()
    fields = [F.col(f"{ORIGINAL}.`{name}`" if name in kept else f"`{name}`").alias(name) for name in parsed.fieldNames()]
    return F.coalesce(F.col(CORRUPT), F.to_json(F.struct(*fields)))


def _problem(events: Events) -> Column:
    """As `streaming.records.events` judges a record: the same words for the same faults."""
    words = F.concat_ws(" ", F.lit("the value is not of the event schema"), F.col(_WRONG))
    problem = F.when(F.col(CORRUPT).isNotNull(), say("malformed_csv", "the line has not as many columns as the header"))
    problem = problem.when(F.col(_WRONG) != "", say("wrong_type", words))
    return without_place(problem, events, key=F.col(f"{META}.key"), time=F.col(f"{META}.event_time"), stamp=F.col(f"{META}.timestamp"))


def _cast(given: Column | None, given_type: DataType | None, declared: DataType) -> Cast:
    if given is None or given_type is None:
        return Cast(F.lit(None).cast(declared), F.lit(False))
    return cast(given, given_type, declared)
