"""SQLTransformer: the expressions of its SELECT over the event's columns and what earlier stages made."""

from __future__ import annotations

from typing import Any, Final

from pyspark.sql import SparkSession

from streaming.models.spark.fold import text
from streaming.models.spark.fold.made import Made, attempt, parsed
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.fold.values import Number
from streaming.models.spark.metadata import Stage

#: Statements below the top one, and functions that Python computes, are left to Spark ML.
_PLAIN: Final = frozenset({"Project", "SubqueryAlias", "View", "LogicalRDD", "LocalRelation", "Range"})


def sql_transformer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Each named expression of the SELECT; a row on which one throws fails."""
    spark = SparkSession.active()
    reads = dict.fromkeys(map(str.lower, stage.inputs))
    columns = [f"CAST(NULL AS {_type(fold, name)}) AS {text.column(name)}" for name in reads]
    frame: Any = fitted.transform(spark.range(0).selectExpr(*columns, "id AS __streaming_id"))._jdf
    project = frame.queryExecution().analyzed()
    if project.getClass().getSimpleName() != "Project" or _operators(project.child()) - {"Project"} - _PLAIN:
        raise CannotFold("it is no plain SELECT")
    for expression in _items(project.projectList()):
        if expression.getClass().getSimpleName() == "Alias":
            _write(fold, stage, expression)


def _type(fold: Fold, name: str) -> str:
    if fold.is_input(name):
        return fold.type(name)
    fold.number(name)  # refuses a vector
    return "double"


def _operators(plan: Any) -> set[str]:
    return {plan.getClass().getSimpleName()}.union(*(_operators(child) for child in _items(plan.children())))


def _items(seq: Any) -> list[Any]:
    return [seq.apply(i) for i in range(seq.size())]


def _write(fold: Fold, stage: Stage, alias: Any) -> None:
    expression, name = alias.child(), str(alias.name())
    if not expression.deterministic():
        raise CannotFold(f"{name} differs from run to run")
    reads = {str(each.name()): _sql(fold, str(each.name())) for each in _items(expression.references().toSeq())}

    def build(spark: SparkSession) -> Any:
        jvm: Any = spark._jvm
        catalyst, seq = jvm.org.apache.spark.sql.catalyst.expressions, jvm.PythonUtils.toSeq
        literal = getattr(getattr(catalyst, "Literal$"), "MODULE$")
        # A null by right and a failure are told apart: the struct is null only where the expression threw.
        return attempt(spark, catalyst.CreateNamedStruct(seq([literal.apply("v"), _with(spark, expression, reads)])))

    said = (
        f"{stage.flow()}: refuses the value{'s' if len(reads) > 1 else ''} of {', '.join(sorted(reads))}"
        if reads
        else f"{stage.flow()}: failed"
    )
    made = fold.let(Made(f"{expression} of {reads}", ", ".join(reads.values()), build))
    fold.fail(f"{made} IS NULL", said)
    kind = str(expression.dataType().simpleString())
    value = fold.let(f"{made}.v")
    if kind == "double":
        fold.write(name, Number(value, nullable=True, nan=True))
    else:
        fold.types = {**fold.types, name.lower(): (value.strip("`"), kind)}


def _sql(fold: Fold, name: str) -> str:
    return fold.plain(name) if fold.is_input(name) else fold.number(name).sql


def _with(spark: SparkSession, expression: Any, reads: dict[str, str]) -> Any:
    """The expression with what its names stand for in their place."""
    if expression.getClass().getSimpleName() == "AttributeReference":
        return parsed(spark, reads[str(expression.name())])
    children = _items(expression.children())
    if not children:
        return expression
    jvm: Any = spark._jvm
    return expression.withNewChildren(jvm.PythonUtils.toSeq([_with(spark, child, reads) for child in children]))
