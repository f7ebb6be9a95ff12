"""A table's value as the type that the event schema declares: exactly, or not at all, as a value of a JSON event is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DecimalType,
    FractionalType,
    IntegralType,
    MapType,
    NullType,
    NumericType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from streaming.records.decimals import ENDLESS
from streaming.records.schema import CORRUPT


@dataclass(frozen=True)
class Cast:
    """`value` has the declared type. `failed` is true, never null, where the table had a value that this type cannot hold."""

    value: Column
    failed: Column


def same(actual: DataType, declared: DataType) -> bool:
    """True when a column is taken as it is."""
    return actual.simpleString() == declared.simpleString()


def cast(given: Column, actual: DataType, declared: DataType) -> Cast:
    """The value as `declared`: nothing is truncated, and the fields of a struct go by their names, not by their places."""
    if same(actual, declared):
        return Cast(given, F.lit(False))
    if isinstance(actual, NullType):
        return Cast(F.lit(None).cast(declared), F.lit(False))
    if isinstance(actual, StructType) and isinstance(declared, StructType):
        return _struct(given, actual, declared)
    if isinstance(actual, ArrayType) and isinstance(declared, ArrayType):
        return _array(given, actual, declared)
    if isinstance(actual, MapType) and isinstance(declared, MapType) and same(actual.keyType, declared.keyType):
        return _map(given, actual, declared)
    if isinstance(actual, StringType) and isinstance(declared, StructType | ArrayType | MapType):
        return _from_text(given, declared)
    value = _plain(given, actual, declared)
    lost = given.isNotNull() & value.isNull()
    # A cast to a whole number drops what stands behind the point; cast back it is another number then.
    if isinstance(declared, IntegralType) and isinstance(actual, FractionalType | TimestampType):
        lost = lost | F.coalesce(value.cast(actual) != given, F.lit(False))
    return Cast(value, lost)


def _plain(given: Column, actual: DataType, declared: DataType) -> Column:
    if isinstance(declared, BooleanType) and isinstance(actual, NumericType):
        return F.when(given == 1, F.lit(True)).when(given == 0, F.lit(False))
    if isinstance(declared, DecimalType) and isinstance(actual, StringType):
        return F.when(~given.rlike(ENDLESS), given.try_cast(declared))
    return given.try_cast(declared)


def _struct(given: Column, actual: StructType, declared: StructType) -> Cast:
    there = {field.name.lower(): field for field in actual.fields}
    parts = []
    for field in declared.fields:
        own = there.get(field.name.lower())
        missing = Cast(F.lit(None).cast(field.dataType), F.lit(False))
        parts.append(missing if own is None else cast(given.getField(own.name), own.dataType, field.dataType))
    whole = F.struct(*(part.value.alias(field.name) for part, field in zip(parts, declared.fields, strict=True)))
    return Cast(F.when(given.isNotNull(), whole), _any([part.failed for part in parts]))


def _array(given: Column, actual: ArrayType, declared: ArrayType) -> Cast:
    def element(x: Column) -> Cast:
        return cast(x, actual.elementType, declared.elementType)

    failed = F.exists(given, lambda x: element(x).failed)
    return Cast(F.transform(given, lambda x: element(x).value), F.coalesce(failed, F.lit(False)))


def _map(given: Column, actual: MapType, declared: MapType) -> Cast:
    def entry(x: Column) -> Cast:
        return cast(x, actual.valueType, declared.valueType)

    failed = F.exists(F.map_values(given), lambda x: entry(x).failed)
    return Cast(F.transform_values(given, lambda _, x: entry(x).value), F.coalesce(failed, F.lit(False)))


def _from_text(given: Column, declared: DataType) -> Cast:
    """JSON text, as CSV has it. Read as the field of an object, so that Spark says whether all of it could be read."""
    whole = StructType([StructField("v", declared), StructField(CORRUPT, StringType())])
    read = F.from_json(F.concat(F.lit('{"v":'), given, F.lit("}")), whole, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT})
    wrong = F.try_parse_json(given).isNull() | read.isNull() | read[CORRUPT].isNotNull()
    failed = given.isNotNull() & (F.trim(given) != "") & F.coalesce(wrong, F.lit(True))
    return Cast(F.when(~failed, read["v"]), failed)


def _any(conditions: Sequence[Column]) -> Column:
    return reduce(Column.__or__, conditions, F.lit(False))
