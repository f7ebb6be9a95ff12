"""Values that SQL has no words for: methods of a fitted stage, called by the code that Spark generates.

A stage's own method is called on a vector that lives for that one call, so a tree, a network or a mixture answers to the
bit as Spark ML does, without a UDF, and without a vector in a row. `TryEval` stands around each call, as it does around
a guarded stage: what a method throws becomes null, and the row's error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pyspark.sql.classic.column import Column as ClassicColumn

if TYPE_CHECKING:
    from pyspark.sql import Column, SparkSession

_VECTOR: Final = "org.apache.spark.ml.linalg.Vector"
_DOUBLES: Final = "[D"
_FUNCTION: Final = "scala.Function1"


@dataclass(frozen=True)
class Made:
    """A value that is built in the JVM. `said`: what it is; `reads`: SQL that names all it reads."""

    said: str
    reads: str
    #: Gives the Catalyst expression.
    build: Callable[[SparkSession], Any] = field(repr=False, compare=False)


def column(spark: SparkSession, made: Made) -> Column:
    """The value as a column."""
    jvm: Any = spark._jvm
    return ClassicColumn(jvm.org.apache.spark.sql.classic.ExpressionUtils.column(made.build(spark)))


def called(java: Any, method: str, vector: str, *, gives: Literal["vector", "double", "int"]) -> Made:
    """`java.method(vector)`, null where it throws. `vector` names an ARRAY<DOUBLE>; a vector that it gives is one too."""
    return Made(f"{method}({vector})", vector, lambda spark: _called(spark, java, method, vector, gives))


def parsed(spark: SparkSession, sql: str) -> Any:
    """The Catalyst expression of an SQL text."""
    session: Any = spark._jsparkSession
    return session.sessionState().sqlParser().parseExpression(sql)


def attempt(spark: SparkSession, expression: Any) -> Any:
    """The same expression, null where it throws."""
    jvm: Any = spark._jvm
    return jvm.org.apache.spark.sql.catalyst.expressions.TryEval(expression)


def _called(spark: SparkSession, java: Any, method: str, vector: str, gives: str) -> Any:
    jvm: Any = spark._jvm
    name = str(java.getClass().getName())
    # The class of a function has no name that generated code could say.
    target = _object(jvm, _FUNCTION) if "$$Lambda" in name else jvm.org.apache.spark.sql.types.ObjectType(java.getClass())
    literal = jvm.org.apache.spark.sql.catalyst.expressions.Literal(java, target)
    kind = _object(jvm, _VECTOR) if gives == "vector" else jvm.org.apache.spark.sql.types.DataType.fromDDL(gives)
    answer = _invoke(jvm, literal, method, kind, _vector(jvm, parsed(spark, vector)))
    return attempt(spark, _array(jvm, answer) if gives == "vector" else answer)


def _vector(jvm: Any, array: Any) -> Any:
    doubles = _invoke(jvm, array, "toDoubleArray", _object(jvm, _DOUBLES))
    return _static(jvm, "org.apache.spark.ml.linalg.Vectors", "dense", _object(jvm, _VECTOR), doubles)


def _array(jvm: Any, vector: Any) -> Any:
    doubles = _invoke(jvm, vector, "toArray", _object(jvm, _DOUBLES))
    array = jvm.org.apache.spark.sql.types.DataType.fromDDL("array<double>")
    return _static(jvm, "org.apache.spark.sql.catalyst.expressions.UnsafeArrayData", "fromPrimitiveArray", array, doubles)


def _invoke(jvm: Any, target: Any, method: str, kind: Any, *arguments: Any) -> Any:
    objects, seq = jvm.org.apache.spark.sql.catalyst.expressions.objects, jvm.PythonUtils.toSeq
    return objects.Invoke(target, method, kind, seq(list(arguments)), seq([]), True, True, True)


def _static(jvm: Any, owner: str, method: str, kind: Any, *arguments: Any) -> Any:
    objects, seq = jvm.org.apache.spark.sql.catalyst.expressions.objects, jvm.PythonUtils.toSeq
    return objects.StaticInvoke(
        _class(jvm, owner), kind, method, seq(list(arguments)), seq([]), True, True, True, jvm.scala.Option.empty()
    )  # fmt: skip


def _object(jvm: Any, name: str) -> Any:
    return jvm.org.apache.spark.sql.types.ObjectType(_class(jvm, name))


def _class(jvm: Any, name: str) -> Any:
    return jvm.org.apache.spark.util.Utils.classForName(name, True, False)
