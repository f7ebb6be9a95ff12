"""What the statement of a SQLTransformer may say, told from the tree that Spark's parser makes of it: nothing is run.

A list of what may stand there, not of what may not: Spark gains operators, expressions and functions with each version.
Two parsers have to agree that a statement is harmless: Spark's own, which takes the text as it stands, and that of the
session, which will read it when the stage runs (extensions such as Delta's bring their own).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streaming.errors import ModelError
from streaming.models.spark.functions import ALLOWED, LENGTHS, LONGEST, SPELLINGS

#: Longer than any statement that somebody wrote, shorter than what would exhaust the parser.
MOST_TEXT: Final = 100_000
#: Deeper than this the parser's own stack may end.
MOST_NODES: Final = 20_000
#: Clauses of a statement, by the operator that Spark's parser makes of them.
_CLAUSES: Final = {
    "Filter": "WHERE, which drops rows",
    "UnresolvedHaving": "HAVING, which drops rows",
    "GlobalLimit": "LIMIT, which silently ends the stream's answers",
    "LocalLimit": "LIMIT, which silently ends the stream's answers",
    "Offset": "OFFSET, which drops rows",
    "Sort": "ORDER BY, which needs all rows at once",
    "Aggregate": "an aggregation, which needs all rows at once",
    "Distinct": "DISTINCT, which drops rows",
    "Join": "a join",
    "Generate": "a table function, which changes the number of rows",
    "Sample": "TABLESAMPLE, which drops rows",
    "ScriptTransformation": "TRANSFORM, which runs a command of the operating system",
    "UnresolvedWith": "WITH",
    "WithWindowDefinition": "a window, which needs all rows at once",
    "Union": "UNION",
}
#: Expressions that compute, as the parser names them. Whatever a node of these holds is among its children, where it is looked at.
_COMPUTING: Final = """
    Literal UnresolvedAttribute UnresolvedStar UnresolvedStarExceptOrReplace UnresolvedAlias Alias UnresolvedFunction NamedArgumentExpression
    Add Subtract Multiply Divide Remainder IntegralDivide UnaryMinus UnaryPositive
    BitwiseAnd BitwiseOr BitwiseXor BitwiseNot ShiftLeft ShiftRight ShiftRightUnsigned
    EqualTo EqualNullSafe LessThan LessThanOrEqual GreaterThan GreaterThanOrEqual Not And Or In IsNull IsNotNull
    Like ILike RLike LikeAll NotLikeAll LikeAny NotLikeAny CaseWhen Cast Concat Lower
    CreateNamedStruct UnresolvedExtractValue SemiStructuredExtract LambdaFunction UnresolvedNamedLambdaVariable
    StringLocate Substring StringTrim StringTrimLeft StringTrimRight StringTrimBoth Overlay TimestampAdd TimestampDiff Collate UnresolvedCollation
"""
_EXPRESSIONS: Final = frozenset(_COMPUTING.split())
_SELECT: Final = "expected SELECT <expressions> FROM __THIS__"


@dataclass
class Columns:
    """The columns that a statement reads and those it names, in its own order."""

    reads: dict[str, None] = field(default_factory=dict)
    writes: dict[str, None] = field(default_factory=dict)


def check(text: str, *, uid: str, where: str, spark: SparkSession) -> Columns:
    """The columns of the statement. ModelError when it does anything but compute columns of one row from that row."""
    if "${" in text:
        raise ModelError(f"{where} has ${{, which Spark replaces with settings and secrets before it reads the statement; take it out")
    if len(text) > MOST_TEXT:
        raise ModelError(f"{where} has {len(text)} characters; expected at most {MOST_TEXT}")
    # What runs is the text with a name made of the uid, so that is what is read here.
    table = f"{uid}_0123456789ab"
    columns = Columns()
    for parser in _parsers(spark):
        columns = Columns()
        try:
            plan = parser.parsePlan(text.replace("__THIS__", table))
        except (PySparkException, Py4JJavaError) as broken:
            raise ModelError(f"{where}: not SQL that Spark can parse; expected SELECT ... FROM __THIS__") from broken
        _check_plan(plan, table, where, columns)
    return columns


def _parsers(spark: SparkSession) -> Iterator[Any]:
    jvm, session = _java(spark)
    yield getattr(getattr(jvm.org.apache.spark.sql.catalyst.parser, "CatalystSqlParser$"), "MODULE$")
    yield session.sessionState().sqlParser()


def _java(spark: SparkSession) -> tuple[Any, Any]:
    return spark._jvm, spark._jsparkSession


def _check_plan(plan: Any, table: str, where: str, columns: Columns) -> None:
    while True:
        operator = "nothing" if plan is None else plan.getClass().getSimpleName()
        if operator == "UnresolvedRelation":
            if plan.isStreaming() or plan.multipartIdentifier().mkString(".") != table:
                raise ModelError(f"{where} reads another table; {_SELECT} alone")
            return
        if operator not in {"Project", "SubqueryAlias"}:
            raise ModelError(f"{where} has {_CLAUSES.get(operator, operator)}; {_SELECT}, which gives one row for one event")
        if operator == "Project":
            for expression in _all(plan.projectList()):
                if expression.getClass().getSimpleName() == "Alias":
                    columns.writes[str(expression.name())] = None
                _check_expression(expression, table, where, columns)
        plan = plan.child()


def _check_expression(top: Any, table: str, where: str, columns: Columns) -> None:
    """Refuse whatever is not on the list. Without recursion: a statement may be deeper than Python's stack."""
    waiting, seen = [top], 0
    while waiting:
        expression = waiting.pop()
        seen += 1
        if seen > MOST_NODES:
            raise ModelError(f"{where} has an expression of more than {MOST_NODES} parts; split it over several columns")
        kind = str(expression.getClass().getSimpleName())
        if kind not in _EXPRESSIONS:
            raise ModelError(f"{where} has {_named(kind)}; {_SELECT}")
        if kind == "UnresolvedAttribute":
            columns.reads[_column(expression.nameParts(), table)] = None
        if kind == "UnresolvedFunction":
            _check_function(expression, where)
        if kind == "UnresolvedStarExceptOrReplace" and expression.replacements().isDefined():
            # These expressions are not among its children.
            raise ModelError(f"{where} has SET, which hides expressions; write the columns out")
        waiting += reversed(list(_all(expression.children())))


def _named(kind: str) -> str:
    if "Subquery" in kind or kind in {"Exists", "ListQuery"}:
        return "a subquery"
    if "Window" in kind:
        return "a window, which needs all rows at once"
    if kind == "AggregateExpression":
        return "an aggregation, which needs all rows at once"
    if kind == "ExpressionWithUnresolvedIdentifier":
        return "IDENTIFIER, which hides what is called"
    return f"{kind}, which is not among the expressions that a saved model may use"


def _column(parts: Any, table: str) -> str:
    return str(parts.apply(1 if parts.size() > 1 and parts.apply(0) == table else 0))


def _check_function(call: Any, where: str) -> None:
    parts, arguments = call.nameParts(), call.arguments()
    name = str(parts.last()).lower()
    if parts.size() != 1 or name not in ALLOWED:
        raise ModelError(f"{where} calls {parts.mkString('.')}, which is not among the functions that a saved model may call: those of Spark that "
                         "compute a value from one row, and nothing else; compute the column before the event is sent")  # fmt: skip
    for places, fits, what in ((LENGTHS, _short, f"a length of at most {LONGEST}"), (SPELLINGS, _narrow, "a format without great widths")):
        if name in places and (arguments.size() <= places[name] or not fits(arguments.apply(places[name]))):
            raise ModelError(f"{where} calls {name} without {what}, written as a constant; a long answer would end the process")


def _short(argument: Any) -> bool:
    value = _constant(argument)
    return value is not None and re.fullmatch(r"\d{1,9}", value) is not None and int(value) <= LONGEST


def _narrow(argument: Any) -> bool:
    value = _constant(argument)
    return value is not None and re.search(r"\d{4}", value) is None


def _constant(argument: Any) -> str | None:
    return str(argument.value()) if argument.getClass().getSimpleName() == "Literal" else None


def _all(listed: Any) -> Iterator[Any]:
    return (listed.apply(i) for i in range(listed.size()))
