"""Rows as they come in JSON: what is wrong with them, field by field, and the columns a scorer reads."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from streaming.scorers.base import ColumnKind
from streaming.scorers.columns import text

#: More than this many problems help nobody.
MOST_PROBLEMS: Final = 20
#: Characters of an unknown field's name that are given back.
MOST_NAME: Final = 100
_WANTED: Final = {"number": "a number", "text": "text", "vector": "an array of numbers"}


class Unreadable(ValueError):
    """The body is not JSON as the standard has it. The text says where."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field of one row. Names the field, never its value."""

    instance: int
    field: str | None
    error: str


def parse(body: bytes) -> Any:
    """The JSON value in a body. Unreadable for anything else, NaN and Infinity included: they are no JSON numbers."""
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError as wrong:
        raise Unreadable(f"the body is not UTF-8 at byte {wrong.start}") from None
    except json.JSONDecodeError as wrong:
        raise Unreadable(f"the body is not valid JSON: {wrong.msg} at line {wrong.lineno} column {wrong.colno}") from None
    except Unreadable:
        raise
    except ValueError:  # Python's own limit on the digits of one integer
        raise Unreadable("the body holds an integer with thousands of digits; a double cannot hold it") from None
    except RecursionError:
        raise Unreadable("the body is nested too deeply") from None


def problems(rows: Sequence[object], inputs: Mapping[str, ColumnKind]) -> list[Problem]:
    """What keeps these rows from becoming columns: at most MOST_PROBLEMS of them, then one that says there are more.

    Looking ends there: a body of nothing but mistakes costs no more than one with a few.
    """
    listed = list(islice(_each_problem(rows, inputs), MOST_PROBLEMS + 1))
    if len(listed) > MOST_PROBLEMS:
        listed[MOST_PROBLEMS] = Problem(listed[MOST_PROBLEMS].instance, None, "and more from this instance on; the rest was not looked at")
    return listed or _ragged(rows, inputs)


def _each_problem(rows: Sequence[object], inputs: Mapping[str, ColumnKind]) -> Iterator[Problem]:
    reads = ", ".join(inputs)
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            yield Problem(i, None, f"expected an object with the fields {reads}; got {name_of(row)}")
            continue
        for field, value in row.items():
            kind = inputs.get(field)
            if kind is None:
                yield Problem(i, _short(field), f"unknown field; the model reads {reads}")
            elif value is not None and (error := _misfit(value, kind)):
                yield Problem(i, field, error)


def columns(rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, ColumnKind]) -> dict[str, NDArray[Any]]:
    """The rows, which have no problems, as one array per input. A field that is missing is null."""
    made: dict[str, NDArray[Any]] = {}
    for name, kind in inputs.items():
        values = [row.get(name) for row in rows]
        if kind == "number":
            made[name] = np.array(values, dtype=np.float64)  # None becomes NaN
        elif kind == "text":
            made[name] = np.empty(len(values), dtype=object)
            made[name][:] = [value if value is None or isinstance(value, str) else text(value) for value in values]
        else:
            size = next((len(value) for value in values if value is not None), 0)
            null = [math.nan] * size
            made[name] = np.array([null if value is None else value for value in values], dtype=np.float64).reshape(len(values), size)
    return made


def name_of(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _misfit(value: object, kind: ColumnKind) -> str | None:
    """Why a value that is not null is not of this kind, or None."""
    if kind == "text":
        if not isinstance(value, str):
            # A number or a boolean is taken as the text that Spark's cast makes of it.
            return None if isinstance(value, bool) else f"expected text, got {name_of(value)}" if _not_a_number(value) else None
        # Half of a surrogate pair can be written in JSON, but is no text in any encoding.
        return None if value.isascii() or _encodable(value) else "expected text, got half of a surrogate pair"
    if kind == "number":
        return _not_a_number(value)
    if not isinstance(value, list):
        return f"expected an array of numbers, got {name_of(value)}"
    return next((f"element {i}: {error}" for i, each in enumerate(value) if (error := _not_a_number(each))), None)


def _not_a_number(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {name_of(value)}"
    try:
        return None if math.isfinite(value) else "expected a number that a double can hold, got a greater one"
    except OverflowError:
        return "expected a number that a double can hold, got a greater one"


def _ragged(rows: Sequence[Any], inputs: Mapping[str, ColumnKind]) -> list[Problem]:
    """Vectors of one request that differ in length: they cannot be one column."""
    ragged = []
    for name in (name for name, kind in inputs.items() if kind == "vector"):
        lengths = [(i, len(row[name])) for i, row in enumerate(rows) if row.get(name) is not None]
        wrong = next(((i, n) for i, n in lengths if n != lengths[0][1]), None)
        if wrong:
            ragged.append(Problem(wrong[0], name, f"expected {lengths[0][1]} numbers, as in instance {lengths[0][0]}, got {wrong[1]}"))
    return ragged


def _short(field: str) -> str:
    """A name that the caller made up, short enough to be given back."""
    return field if len(field) <= MOST_NAME else f"{field[:MOST_NAME]}…"


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no JSON number; send null for an unknown value")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)
