"""A row that a stage cannot score never stops the job: what the stage throws becomes the row's error.

Spark ML's stages throw inside JVM functions (an unseen label, a null, a vector of the wrong size). Each expression
that a stage adds is therefore put inside Catalyst's `TryEval`, which gives null where its child throws an Exception. A Java Error passes,
but for one thrown inside a function: Spark's compiled code makes that an Exception, so a heap that is exhausted there
would look like a bad row (run with -XX:+ExitOnOutOfMemoryError). What was null by right and what failed are told
apart, and a number per row says which expression failed first; the number becomes words only at the end.

    stage's plan          Project [.., f(x) AS y]
    guarded               Project [.., try AS y, failed]                   the number of the first failure, or null
                          +- Project [.., TryEval(f(x)) AS try]

Only projections are added, so real-time mode, micro-batch and batch all take the result. The number is an INT, and
the words one array literal, because the JVM never compiles a method above 8,000 bytes of bytecode, and Spark puts the
whole chain into one method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn
from pyspark.sql.types import DataType, DoubleType, FloatType

from streaming.errors import ModelError
from streaming.models.columns import quoted
from streaming.models.spark.metadata import Stage

#: Columns of the guard and of the event begin so: they pass every stage, whatever a stage selects.
OWN: Final = "__streaming_"
FAILED: Final = f"{OWN}failed"
_TRY: Final = f"{OWN}try"

#: Expressions that cannot throw.
_SAFE: Final = frozenset({"AttributeReference", "GetStructField", "Literal", "Alias", "IsNull", "IsNotNull", "IsNaN", "Coalesce"}) | {
    "CaseWhen", "If", "And", "Or", "Not", "EqualTo", "EqualNullSafe", "LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual",
}  # fmt: skip
_NUMBERS: Final = frozenset({"double", "float", "integer", "long", "short", "byte", "boolean"})
_OPERATORS: Final = {
    "Filter": "drops rows",
    "GlobalLimit": "silently ends the stream's answers after some rows",
    "LocalLimit": "silently ends the stream's answers after some rows",
    "Aggregate": "needs all rows at once",
    "Window": "needs all rows at once",
    "Sort": "needs all rows at once",
    "Distinct": "drops rows",
    "Deduplicate": "drops rows",
    "Join": "joins a table, which real-time mode refuses",
    "Generate": "changes the number of rows",
    "MapInPandas": "hides the event's columns from the service",
    "MapInArrow": "hides the event's columns from the service",
    "PythonMapInArrow": "hides the event's columns from the service",
}


@dataclass
class Failures:
    """The words of every failure, numbered from 1 in the order in which they are looked for."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> Column:
        """The number of a new text."""
        self.texts.append(text)
        return F.lit(len(self.texts))

    def words(self) -> Column:
        """The text of the row's failure; null on a good row."""
        # Spark holds element_at of an array without nulls for never null, even where the position is null: hence the question.
        return F.when(F.col(FAILED).isNotNull(), F.element_at(F.array(*map(F.lit, self.texts)), F.col(FAILED)))


@dataclass(frozen=True)
class Guard:
    """One pass of rows through stages: collects the texts of the failures, and what needs Python."""

    spark: SparkSession
    where: str
    #: The columns that come from the event.
    inputs: frozenset[str] = frozenset()
    failures: Failures = field(default_factory=Failures)
    python: list[str] = field(default_factory=list)
    #: Columns that are null on no row but a failed one.
    total: set[str] = field(default_factory=set)

    def apply(self, stage: Stage, rows: DataFrame, transform: Callable[[DataFrame], DataFrame]) -> DataFrame:
        """What `transform` makes of `rows`, guarded. ModelError when the stage does more than add columns row by row."""
        base = _plan(rows)
        levels = self._levels(stage, base, _plan(transform(rows)))
        guarded = rows
        for level in levels:
            guarded = self._level(stage, guarded, level)
        return guarded

    def _levels(self, stage: Stage, base: Any, plan: Any) -> list[Any]:
        """The projections that the stage put over `base`, lowest first."""
        levels = []
        while not base.fastEquals(plan):
            operator = _name(plan)
            if operator == "Project":
                levels.append(plan)
            elif operator not in {"SubqueryAlias", "View"}:
                why = _OPERATORS.get(operator, "is more than a projection of one row")
                raise ModelError(
                    f"{self.where}: {stage} cannot run on a stream: its {operator} {why}; leave the stage out, or write it as columns"
                )
            plan = plan.child()
        return levels[::-1]

    def _level(self, stage: Stage, rows: DataFrame, level: Any) -> DataFrame:
        """One projection of a stage over the guarded `rows`, with every expression that may throw inside a TryEval."""
        catalyst = self._catalyst()
        below = _plan(rows)
        # Asked once: the answer crosses to the JVM and back, and a stage may have a thousand expressions.
        types = {f.name: f.dataType for f in rows.schema.fields}
        tries: list[Any] = []
        checks: list[tuple[Column, Column]] = []
        listed: list[Any] = []
        for expression in _items(level.projectList()):
            if str(expression.name()).startswith(OWN):
                continue
            self.total.discard(str(expression.name()) if _name(expression) == "Alias" else "")
            if _name(expression) != "Alias" or _safe(expression.child()) or self._is_python(stage, expression.child()):
                listed.append(expression)
                continue
            attempt, wrapped, legal = self._attempt(stage, expression.child(), f"{_TRY}{len(tries)}")
            tries.append(attempt)
            checks.append(self._check(stage, types, expression.child(), attempt.name(), legal))
            if legal is None and not wrapped:
                self.total.add(str(expression.name()))
            value = attempt.toAttribute()
            value = catalyst.GetStructField(value, 0, self._none()) if wrapped else value
            listed.append(expression.withNewChildren(self._seq([value])))
        if tries:
            rows = self._frame(self._project([*_items(below.output()), *tries], below))
            rows = rows.withColumn(FAILED, first_failure(checks))
            below = _plan(rows)
        own = [a for a in _items(below.output()) if str(a.name()).startswith(OWN) and not str(a.name()).startswith(_TRY)]
        return self._frame(self._project([*listed, *own], below))

    def _attempt(self, stage: Stage, child: Any, name: str) -> tuple[Any, bool, Column | None]:
        """`child` inside a TryEval; whether it is wrapped in a struct; and when its null is no failure.

        A struct with one field is null only when the field threw. Where a null can be read without one it is left
        out: an expression that is never null, and a function of Spark ML, which is null only on a null input.
        """
        catalyst = self._catalyst()
        legal, wrapped = None, False
        child = self._lean(child) if stage.builtin else child
        if child.nullable() and not (stage.builtin and _name(child) == "ScalaUDF"):
            if stage.builtin and _null_on_null(child):
                if not {str(a.name()) for a in _items(child.references().toSeq())} <= self.total:
                    legal = ClassicColumn(self._classic().ExpressionUtils.column(child.predicate()))
            else:
                literal = getattr(getattr(catalyst, "Literal$"), "MODULE$")
                child, wrapped = catalyst.CreateNamedStruct(self._seq([literal.apply("v"), child])), True
        names = catalyst.NamedExpression
        attempt = catalyst.Alias(catalyst.TryEval(child), name, names.newExprId(), self._seq([]), self._none(), self._seq([]))
        return attempt, wrapped, legal

    def _lean(self, expression: Any) -> Any:
        """The same expression without encoders: each task would compile one for every function, which takes longer than a small batch.

        A function of doubles, texts and vectors is served as well by Spark's converters, which need no compiling.
        """
        children = _items(expression.children())
        lean = [self._lean(child) for child in children]
        if any(new is not old for new, old in zip(lean, children, strict=True)):
            expression = expression.withNewChildren(self._seq(lean))
        if _name(expression) != "ScalaUDF":
            return expression
        simple = all(_plain(child.dataType()) for child in children)
        encoders = self._seq([]) if simple else expression.inputEncoders()
        return self._catalyst().ScalaUDF(
            expression.function(), expression.dataType(), expression.children(), encoders, self._none(),
            expression.udfName(), expression.nullable(), expression.udfDeterministic(),
        )  # fmt: skip

    def _check(self, stage: Stage, types: Mapping[str, DataType], child: Any, name: str, legal: Column | None) -> tuple[Column, Column]:
        """When the attempt `name` failed, and the number of the failure, which says what is odd about the inputs, never their values."""
        seen = sorted({str(a.name()) for a in _items(child.references().toSeq()) if not str(a.name()).startswith(OWN)})
        said = f"refuses the value{'s' if len(seen) > 1 else ''} of {', '.join(seen)}" if seen else "failed"
        # Only what an event itself can get wrong is looked at: what earlier stages made, they would have refused.
        # One CASE for all: of a thousand columns, one CASE within the other would be deeper than Java's stack.
        cases: Any = F
        for column in [name for name in seen if name in self.inputs]:
            cases = cases.when(quoted(column).isNull(), self.failures.number(f"{stage.flow()}: {column} is null"))
            if isinstance(types.get(column), DoubleType | FloatType):
                cases = cases.when(F.isnan(quoted(column)), self.failures.number(f"{stage.flow()}: {column} is NaN"))
        otherwise = self.failures.number(f"{stage.flow()}: {said}")
        reason = otherwise if cases is F else cases.otherwise(otherwise)
        failed = F.col(name).isNull() if legal is None else F.col(name).isNull() & ~legal
        return failed, reason

    def _is_python(self, stage: Stage, expression: Any) -> bool:
        """True when Python computes `expression`: no TryEval reaches it, and real-time mode refuses it."""
        patterns = self._jvm().org.apache.spark.sql.catalyst.trees.TreePattern
        in_python = bool(expression.containsPattern(patterns.PYTHON_UDF()))
        if in_python and str(stage) not in self.python:
            self.python.append(str(stage))
        return in_python

    def _jvm(self) -> Any:
        return self.spark._jvm

    def _catalyst(self) -> Any:
        return self._jvm().org.apache.spark.sql.catalyst.expressions

    def _classic(self) -> Any:
        return self._jvm().org.apache.spark.sql.classic

    def _seq(self, items: Sequence[Any]) -> Any:
        return self._jvm().PythonUtils.toSeq(list(items))

    def _none(self) -> Any:
        return self._jvm().scala.Option.empty()

    def _project(self, listed: Sequence[Any], below: Any) -> Any:
        return self._jvm().org.apache.spark.sql.catalyst.plans.logical.Project(self._seq(listed), below)

    def _frame(self, plan: Any) -> DataFrame:
        session: Any = self.spark._jsparkSession
        return DataFrame(self._classic().Dataset.ofRows(session, plan), self.spark)


def first_failure(checks: Sequence[tuple[Column, Column]]) -> Column:
    """The row's failure so far, or the number of the first of `checks` (when, number) that applies; null on a good row."""
    first: Any = F
    # One CASE for all: a third of the bytecode of a CASE for each.
    for when, number in checks:
        first = first.when(when, number)
    return F.coalesce(F.col(FAILED), first)


def is_vector(rows: DataFrame, name: str) -> bool:
    """True when the column holds Spark ML vectors."""
    return isinstance(rows.schema[name].dataType, VectorUDT)


def _plan(rows: DataFrame) -> Any:
    frame: Any = rows._jdf
    return frame.queryExecution().analyzed()


def _items(seq: Any) -> list[Any]:
    return [seq.apply(i) for i in range(seq.size())]


def _name(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _safe(expression: Any) -> bool:
    """True when nothing in `expression` can throw. A number becomes a double without loss; no other cast is so harmless."""
    if _name(expression) == "Cast":
        widened = str(expression.dataType().typeName()) == "double" and str(expression.child().dataType().typeName()) in _NUMBERS
        return widened and _safe(expression.child())
    return _name(expression) in _SAFE and all(_safe(child) for child in _items(expression.children()))


def _plain(kind: Any) -> bool:
    """True for the types of which a Spark ML function takes the plain Java value: no array becomes the wrong kind of sequence."""
    return str(kind.typeName()) in _NUMBERS | {"string", "vector"}


def _null_on_null(expression: Any) -> bool:
    """True for the form that Spark gives to a function of numbers: null where an input is null, else the function."""
    return (
        _name(expression) == "If"
        and _name(expression.trueValue()) == "Literal"
        and _name(expression.falseValue()) == "ScalaUDF"
        and _asks_numbers_for_null(expression.predicate())
    )


def _asks_numbers_for_null(expression: Any) -> bool:
    name = _name(expression)
    if name == "AttributeReference":
        return str(expression.dataType().typeName()) in _NUMBERS
    return name in {"IsNull", "Or", "Cast"} and all(_asks_numbers_for_null(child) for child in _items(expression.children()))
