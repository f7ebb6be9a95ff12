"""Numbers that would never be read to their end: Java writes a DECIMAL like 1e400000000 out, all of its digits, for hours."""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DecimalType, MapType, StringType, StructField, StructType

from streaming.records.schema import CORRUPT, inner

#: An exponent with more digits than the widest DOUBLE has (308), or more digits than any DECIMAL: no honest number is written so.
ENDLESS: Final = r"[eE][+-]?\d{4,}|\d{1000}"
#: The same in JSON, or an escape that may hide it.
_SUSPICIOUS: Final = r"[0-9.][eE][+-]?\d{4,}|\d{1000}|\\u00"


def endless(text: Column, parsed: StructType) -> Column | None:
    """True where a JSON text holds such a number, wherever Spark would read it as a DECIMAL; None when the schema has no DECIMAL.

    Spark's readers show a number only as they have read it, so it is looked for in the text: outside strings every one
    counts, and a string counts where the schema wants a DECIMAL, or where the text is no JSON. One cheap look clears almost every text.
    """
    fields = [field for field in parsed.fields if _has_decimal(field.dataType)]
    if not fields:
        return None
    # Without escapes no string has a quote in it, and what is between two quotes is a string.
    outside = F.regexp_replace(F.regexp_replace(text, r"\\.", ""), '"[^"]*"', '""')
    as_text = StructType([*(StructField(field.name, _as_text(field.dataType)) for field in fields), StructField(CORRUPT, StringType())])
    spelled = F.from_json(text, as_text, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT})
    # Spark reads field by field: of a text that is broken further on it has read the number already when it finds that out.
    broken = spelled.isNull() | spelled[CORRUPT].isNotNull()
    in_strings = F.coalesce(broken, F.lit(True)) | F.coalesce(F.to_json(spelled), F.lit("")).rlike(ENDLESS)
    return text.rlike(_SUSPICIOUS) & (outside.rlike(_SUSPICIOUS) | in_strings)


def _has_decimal(kind: DataType) -> bool:
    return isinstance(kind, DecimalType) or any(map(_has_decimal, inner(kind)))


def _as_text(kind: DataType) -> DataType:
    """The type with STRING for every DECIMAL, and nothing beside what leads to one."""
    if isinstance(kind, StructType):
        return StructType([StructField(field.name, _as_text(field.dataType)) for field in kind.fields if _has_decimal(field.dataType)])
    if isinstance(kind, ArrayType):
        return ArrayType(_as_text(kind.elementType))
    if isinstance(kind, MapType):
        return MapType(StringType(), _as_text(kind.valueType))
    return StringType()
