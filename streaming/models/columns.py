"""Whether an event has the columns that a model reads, said in words that tell what to mend."""

from __future__ import annotations

from difflib import get_close_matches

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, DoubleType, NullType, NumericType, StringType, StructType

from streaming.errors import ModelError
from streaming.models.base import OUTPUTS, Model


def missing(model: Model, schema: StructType) -> list[str]:
    """What keeps `model` from reading events of `schema`, one sentence a column; empty when nothing does."""
    return mismatches(model.inputs(), schema)


def check(uri: str, inputs: StructType, seen: StructType) -> dict[str, str]:
    """The event's columns by their names in lower case. ModelError when one is missing, of another type, or named like an output."""
    taken = [name for name in seen.fieldNames() if name.lower() in OUTPUTS]
    if taken:
        raise ModelError(f"{uri}: the event has a column {taken[0]!r}, a name under which the model answers ({', '.join(OUTPUTS)}); "
                         "give the event's field another name with events.columns")  # fmt: skip
    wrong = mismatches(inputs, seen)
    if wrong:
        raise ModelError(f"{uri}: the events do not fit the model: {'; '.join(wrong)}")
    return {name.lower(): name for name in seen.fieldNames()}


def quoted(name: str) -> Column:
    """The column of exactly this name, dots and all."""
    return F.col("`" + name.replace("`", "``") + "`")


def mismatches(inputs: StructType, seen: StructType) -> list[str]:
    """What the columns `seen` lack of the columns `inputs`, one sentence each. Upper and lower case are alike, as for Spark."""
    actual = {name.lower(): seen[name].dataType for name in seen.fieldNames()}
    problems = []
    for wanted in inputs.fields:
        has = actual.get(wanted.name.lower())
        if has is None:
            problems.append(_absent(wanted.name, wanted.dataType, seen.fieldNames()))
        elif not fits(has, wanted.dataType):
            problems.append(
                f"the pipeline reads column {wanted.name!r} ({words(wanted.dataType)}); the event has it as {has.simpleString()}"
            )
    return problems


def fits(has: DataType, wanted: DataType) -> bool:
    """True when a column of type `has` can be read where `wanted` is declared. NullType: any."""
    if isinstance(wanted, NullType):
        return True
    if isinstance(wanted, DoubleType):
        return isinstance(has, NumericType | BooleanType | VectorUDT)
    if isinstance(wanted, StringType):
        return isinstance(has, StringType)
    if isinstance(wanted, ArrayType):
        if isinstance(wanted.elementType, DoubleType) and isinstance(has, VectorUDT):
            return True
        return isinstance(has, ArrayType) and fits(has.elementType, wanted.elementType)
    return has == wanted


def words(wanted: DataType) -> str:
    """A declared type for people."""
    if isinstance(wanted, NullType):
        return "any type"
    if isinstance(wanted, DoubleType):
        return "numeric"
    if isinstance(wanted, ArrayType):
        return f"array of {'numbers' if isinstance(wanted.elementType, DoubleType) else words(wanted.elementType)}"
    return wanted.simpleString()


def _absent(name: str, wanted: DataType, has: list[str]) -> str:
    near = get_close_matches(name, has, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"the pipeline reads column {name!r} ({words(wanted)}); the event has no such field; it has: {', '.join(has)}{hint}"
