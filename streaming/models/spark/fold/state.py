"""A fold under way: which value stands under which name, what fails a row, and in which order things are computed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from streaming.models.spark.fold import text
from streaming.models.spark.fold.made import Made
from streaming.models.spark.fold.values import Block, Number, Packed, Vector
from streaming.models.spark.guard import OWN
from streaming.models.spark.metadata import Stage

_NAME: Final = re.compile(rf"`{OWN}f(\d+)`")
#: Columns of an event that are numbers, by Spark's names of their types; of these, the ones that may be NaN.
_NUMERIC: Final = frozenset({"tinyint", "smallint", "int", "bigint", "float", "double", "boolean"})
_FLOATING: Final = frozenset({"float", "double"})


class CannotFold(Exception):
    """A stage, or a setting of one, has no such expression. The message says what, after the name of the stage."""


@dataclass
class Fold:
    """Names and values so far. `types`: the event's columns, lower case -> (actual name, Spark's name of the type)."""

    types: Mapping[str, tuple[str, str]]
    values: dict[str, Number | Vector] = field(default_factory=dict)
    #: What is computed first, what from that, and so on: name -> value.
    levels: list[dict[str, str | Made]] = field(default_factory=list)
    #: Conditions under which a row cannot be scored, in the order in which they are looked at, and SQL of what is then said.
    failures: list[tuple[str, str]] = field(default_factory=list)
    #: Of each name, by its number, the level on which it stands.
    _places: list[int] = field(default_factory=list)

    def let(self, value: str | Made) -> str:
        """A name for a value that is used more than once, so that it is computed once a row."""
        sql = value if isinstance(value, str) else value.reads
        if isinstance(value, str) and _NAME.fullmatch(sql):
            return sql
        place = 1 + max((self._places[int(n)] for n in _NAME.findall(sql)), default=-1)
        if place == len(self.levels):
            self.levels.append({})
        name = f"{OWN}f{len(self._places)}"
        self._places.append(place)
        self.levels[place][name] = value
        return text.column(name)

    def attempt(self, made: Made, stage: Stage) -> str:
        """A name for a value that is null where a row cannot be scored."""
        name = self.let(made)
        self.fail(f"{name} IS NULL", f"{stage.flow()}: refuses the value of {', '.join(stage.inputs)}")
        return name

    def fail(self, condition: str, said: str) -> None:
        """Rows for which `condition` is true cannot be scored."""
        self.fail_saying(condition, text.string(said))

    def fail_saying(self, condition: str, said: str) -> None:
        """The same, where only the row itself tells what is to be said. `said`: SQL of a STRING."""
        self.failures.append((condition, said))

    def is_input(self, name: str) -> bool:
        """True for a column that comes from the event."""
        return name.lower() not in self.values

    def write(self, name: str, value: Number | Vector) -> None:
        """What a stage makes."""
        self.values[name.lower()] = value

    def type(self, name: str) -> str:
        """Spark's name of the type of a column; double for what stages make."""
        return self.types[name.lower()][1] if self.is_input(name) else "double"

    def plain(self, name: str) -> str:
        """The event's column, of its own type."""
        return text.column(self.types[name.lower()][0])

    def number(self, name: str) -> Number:
        """A column as a number."""
        value = self.values.get(name.lower())
        if isinstance(value, Vector):
            raise CannotFold(f"{name} is a vector, not a number")
        if value is not None:
            return value
        kind = self.type(name)
        if kind not in _NUMERIC and not kind.startswith("decimal"):
            raise CannotFold(f"{name} is a {kind}, not a number")
        plain = self.plain(name)
        return Number(plain if kind == "double" else f"CAST({plain} AS DOUBLE)", nullable=True, nan=kind in _FLOATING)

    def any(self, name: str, size: int | None = None) -> Number | Vector:
        """A column as it is; an array of the event as a vector of `size`."""
        if self.is_input(name) and self.type(name).startswith("array"):
            raise CannotFold(f"it reads the array {name} from the event")
        return self.values[name.lower()] if not self.is_input(name) else self.number(name)

    def vector(self, name: str, size: int | None, stage: Stage) -> Vector:
        """A column as a vector of `size` elements (None: as many as it has); a row without one fails."""
        if self.is_input(name):
            return self._array(name, size, stage)
        value = self.values[name.lower()]
        if not isinstance(value, Vector):
            raise CannotFold(f"{name} is no vector")
        if size is not None and len(value) != size:
            raise CannotFold(f"{name} has {len(value)} elements; the stage was fitted on {size}")
        for condition in value.nulls:
            self.fail(condition, f"{stage.flow()}: {name} is null")
        return Vector(value.blocks)

    def _array(self, name: str, size: int | None, stage: Stage) -> Vector:
        kind = self.type(name)
        if size is None or not kind.startswith("array<") or kind[6:-1] not in _NUMERIC - {"boolean"}:
            raise CannotFold(f"it reads the {kind} {name} from the event" + ("" if size else ", whose length the model does not say"))
        plain = self.plain(name)
        # array_contains is compiled and exists is not: where it finds neither NaN nor, which makes it null, a null, all is well.
        doubles = plain if kind == "array<double>" else f"CAST({plain} AS ARRAY<DOUBLE>)"
        odd = f"coalesce(array_contains({doubles}, {text.number(float('nan'))}), true)"
        wrong = f"size({plain}) != {size} OR IF({odd}, exists({plain}, x -> x IS NULL), false)"
        self.fail(f"{plain} IS NULL", f"{stage.flow()}: {name} is null")
        self.fail(wrong, f"{stage.flow()}: refuses the value of {name} (expected {size} numbers)")
        value = Vector((Packed(self.let(doubles) if doubles != plain else plain, size, nan=True),))
        self.values[name.lower()] = value
        return value

    def named(self, vector: Vector) -> Vector:
        """The same vector, every computed number of it under a name: for stages that read an element many times."""
        return Vector(tuple(_renamed(block, self.let(block.sql)) if isinstance(block, Number) else block for block in vector.blocks))

    def total(self, terms: Sequence[str], plus: float | None = None) -> str:
        """A named sum, with a constant added last."""
        return self.let(text.total(terms) if plus is None else f"({text.total(terms)} + {text.number(plus)})")


def _renamed(number: Number, sql: str) -> Block:
    return replace(number, sql=sql)
