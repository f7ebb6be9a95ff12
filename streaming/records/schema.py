"""The event schema of the config: its fields as Spark types, checked once, and asked for by dotted path everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    CharType,
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
    VarcharType,
)

from streaming.config.sections import Events
from streaming.errors import ConfigError

#: Where a row came from, and the column that says what is wrong with it; every other column is the event's own.
META: Final = "_event"
PROBLEM: Final = "_problem"
#: Where Spark's readers put a text that they cannot read.
CORRUPT: Final = "_corrupt"


def event_schema(spark: SparkSession, events: Events, *, source: str = "config") -> StructType:
    """The event schema of the config as Spark types. ConfigError when the DDL, a path or a field's type is wrong."""
    try:
        parsed = cast(StructType, StructType.fromDDL(events.ddl))
    except PySparkException as broken:
        first = str(broken).strip().splitlines()[0]
        raise ConfigError(f"{source}: events.schema: not a Spark DDL string: {first}; expected such as 'id STRING, tenure INT'") from broken
    fixed = _of_fixed_length(parsed)
    if fixed is not None:
        raise ConfigError(f"{source}: events.schema: {fixed.simpleString()}: text of a fixed length cannot be read from JSON; use STRING")
    reserved = [name for name in parsed.fieldNames() if name.lower() in {META, PROBLEM, CORRUPT}]
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


def _of_fixed_length(kind: DataType) -> DataType | None:
    """The first CHAR or VARCHAR in a type."""
    if isinstance(kind, CharType | VarcharType):
        return kind
    return next((fixed for each in inner(kind) if (fixed := _of_fixed_length(each)) is not None), None)


def inner(kind: DataType) -> list[DataType]:
    """The types that a type is made of; none when it is a plain one."""
    if isinstance(kind, StructType):
        return [field.dataType for field in kind.fields]
    if isinstance(kind, MapType):
        return [kind.keyType, kind.valueType]
    return [kind.elementType] if isinstance(kind, ArrayType) else []


def _twice(names: Sequence[str]) -> str | None:
    """The first name that repeats an earlier one, but for upper and lower case."""
    return next((name for i, name in enumerate(names) if name.lower() in map(str.lower, names[:i])), None)


def event_columns(parsed: StructType, events: Events) -> StructType:
    """The columns a model sees: the event's top-level fields, and the nested ones that `events.columns` lifts up."""
    lifted = [
        StructField(name, declared.dataType) for name, path in events.columns.items() if (declared := field(parsed, path)) is not None
    ]
    return StructType([*parsed.fields, *lifted])


def field(parsed: StructType, path: str) -> StructField | None:
    """The field at a dotted path, or None. Case counts, as it does in JSON."""
    child: StructField | None = None
    level: DataType = parsed
    for part in path.split("."):
        if not isinstance(level, StructType):
            return None
        child = next((f for f in level.fields if f.name == part), None)
        if child is None:
            return None
        level = child.dataType
    return child


def field_column(parsed: StructType, path: str) -> Column:
    """The column at a dotted path of a decoded event."""
    assert field(parsed, path) is not None, path
    return F.col(".".join(f"`{part}`" for part in path.split(".")))


def _check(where: str, path: str, declared: StructField | None, parsed: StructType, source: str) -> None:
    if declared is None:
        raise ConfigError(f"{source}: events.{where}: the schema has no field {path!r}; its fields: {', '.join(_paths(parsed))}")
    if where == "key" and isinstance(declared.dataType, StructType | ArrayType | MapType):
        raise ConfigError(f"{source}: events.key: {path} is a {declared.dataType.simpleString()}; expected a text, a number or the like")
    usable = StringType | IntegralType | DoubleType | FloatType | DecimalType | TimestampType | TimestampNTZType | DateType
    if where == "time" and not isinstance(declared.dataType, usable):
        raise ConfigError(f"{source}: events.time: {path} is a {declared.dataType.simpleString()}; expected STRING, a number or TIMESTAMP")


def _paths(parsed: StructType, prefix: str = "") -> list[str]:
    paths: list[str] = []
    for f in parsed.fields:
        paths += _paths(f.dataType, f"{prefix}{f.name}.") if isinstance(f.dataType, StructType) else [prefix + f.name]
    return paths


def type_at(parsed: StructType, path: str) -> DataType:
    """The declared type at a dotted path."""
    declared = field(parsed, path)
    assert declared is not None, path  # event_schema() has checked every path
    return declared.dataType
