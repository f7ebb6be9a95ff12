"""Rows and Arrow batches as the NumPy columns that a scorer reads, with the values that Spark would give the model. No Spark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streaming.errors import ModelError
from streaming.scorers.base import ColumnKind, Columns

Row = Mapping[str, Any]

_EXPECTED: Final[dict[ColumnKind, str]] = {"number": "a number", "text": "text", "vector": "a list of numbers"}


def from_rows(rows: Sequence[Row], inputs: Mapping[str, ColumnKind]) -> Columns:
    """JSON-like rows as columns. A column that no row has raises ModelError; a row without it has null there.

    Numbers: int, float, bool (1 or 0), NaN where null. Text: str, None where null; numbers and booleans as Spark's cast
    spells them. Vectors: all of one length, NaN throughout where null. ModelError names the first value of a wrong type;
    ask :func:`problems` for all of them.
    """
    for place, row in enumerate(rows):
        wrong = problems(row, inputs)
        if wrong:
            raise ModelError(f"row {place}: {'; '.join(f'{name}: {said}' for name, said in wrong.items())}")
    missing = [name for name in inputs if rows and not any(name in row for row in rows)]
    if missing:
        raise _missing(missing, sorted({name for row in rows for name in row}))
    return {name: _values([row.get(name) for row in rows], name, kind) for name, kind in inputs.items()}


def problems(row: Row, inputs: Mapping[str, ColumnKind]) -> dict[str, str]:
    """What is wrong with the types of a row: field -> "expected a number, got text". Null and missing are not wrong. Never a value."""
    wrong: dict[str, str] = {}
    for name, kind in inputs.items():
        value = row.get(name)
        if value is not None and not _fits(value, kind):
            wrong[name] = f"expected {_EXPECTED[kind]}, got {_type(value)}"
    return wrong


def from_arrow(table: pa.RecordBatch | pa.Table, inputs: Mapping[str, ColumnKind]) -> Columns:
    """The columns of an Arrow batch or table, converted as in :func:`from_rows`. ModelError on a missing column or a type that does not fit."""
    missing = [name for name in inputs if name not in table.schema.names]
    if missing:
        raise _missing(missing, table.schema.names)
    return {name: _array(table.column(name), name, kind) for name, kind in inputs.items()}


def _missing(names: Sequence[str], has: Sequence[str]) -> ModelError:
    return ModelError(f"the model reads {', '.join(map(repr, names))}; the rows do not have {'it' if len(names) == 1 else 'them'}: "
                      f"they have {', '.join(has) or 'no columns'}")  # fmt: skip


def _fits(value: Any, kind: ColumnKind) -> bool:
    if kind == "vector":
        return isinstance(value, list | tuple | np.ndarray) and all(x is None or _is_number(x) for x in value)
    return _is_number(value) or (kind == "text" and isinstance(value, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_ | Decimal)


def _type(value: Any) -> str:
    """The type as people who write JSON call it."""
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            odd = next((x for x in value if x is not None and not _is_number(x)), None)
            return "a list" if odd is None else f"a list with {_type(odd)} in it"
        case Mapping():
            return "an object"
        case _:
            return type(value).__name__


def _values(values: Sequence[Any], name: str, kind: ColumnKind) -> NDArray[Any]:
    if kind == "number":
        return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    if kind == "text":
        texts = np.empty(len(values), dtype=object)
        texts[:] = [None if value is None else text(value) for value in values]
        return texts
    return _vectors(values, name)


def _vectors(values: Sequence[Any], name: str) -> NDArray[np.float64]:
    lengths = {len(value) for value in values if value is not None}
    if len(lengths) > 1:
        raise ModelError(f"{name}: expected vectors of one length, got lengths {', '.join(map(str, sorted(lengths)))}")
    width = lengths.pop() if lengths else 0
    matrix = np.full((len(values), width), math.nan)
    for place, value in enumerate(values):
        if value is not None:
            matrix[place] = [math.nan if x is None else float(x) for x in value]
    return matrix


def text(value: Any) -> str:
    """A value as Spark's cast to STRING spells it: 0, 1.5, 1.0E10, true."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, np.float32):
        return _java(float(value), str(value))
    return java_double(float(value)) if isinstance(value, float | np.floating) else str(value)


def java_double(value: float) -> str:
    """The number as Java's Double.toString spells it: the fewest digits that tell it from its neighbours, at least one after the point."""
    return _java(value, repr(value))


def _java(value: float, shortest: str) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(shortest).as_tuple()
    assert isinstance(exponent, int)
    numerals = "".join(map(str, digits)).rstrip("0")
    point = len(digits) + exponent  # the value is 0.numerals * 10^point
    minus = "-" if sign else ""
    if not numerals:
        return f"{minus}0.0"
    if 1e-3 <= abs(value) < 1e7:
        if point <= 0:
            return f"{minus}0.{'0' * -point}{numerals}"
        return f"{minus}{numerals[:point].ljust(point, '0')}.{numerals[point:] or '0'}"
    return f"{minus}{numerals[0]}.{numerals[1:] or '0'}E{point - 1}"


def _array(column: pa.Array | pa.ChunkedArray, name: str, kind: ColumnKind) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    shown, types = column.type, pa.types
    if types.is_null(shown):
        return _values([None] * len(column), name, kind)
    numeric = types.is_integer(shown) or types.is_floating(shown) or types.is_decimal(shown) or types.is_boolean(shown)
    if kind == "number" and numeric:
        doubles = column.cast(pa.uint8()).cast(pa.float64()) if types.is_boolean(shown) else column.cast(pa.float64(), safe=False)
        return np.array(pc.fill_null(doubles, math.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
    if kind == "text" and (types.is_string(shown) or types.is_large_string(shown) or types.is_string_view(shown)):
        return np.array(column.to_numpy(zero_copy_only=False), dtype=object)
    if kind == "text" and numeric:
        values = column.to_numpy(zero_copy_only=False) if types.is_float32(shown) and not column.null_count else column.to_pylist()
        return _values(list(values), name, kind)
    if kind == "vector" and (types.is_list(shown) or types.is_large_list(shown) or types.is_fixed_size_list(shown)):
        rows = column.to_pylist()
        if all(row is None or _fits(row, kind) for row in rows):
            return _vectors(rows, name)
    raise ModelError(f"{name}: expected {_EXPECTED[kind]}, got Arrow type {shown}")
