"""The whole pipeline folded: what it computes from an event's columns, as SQL, and how that is put over a DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming.models.base import OUTPUTS
from streaming.models.columns import quoted
from streaming.models.spark.fold import text
from streaming.models.spark.fold.called import CALLED
from streaming.models.spark.fold.features import FEATURES
from streaming.models.spark.fold.formula import opened
from streaming.models.spark.fold.linear import LINEAR, FoldedAnswer
from streaming.models.spark.fold.made import Made, column
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.fold.statement import sql_transformer
from streaming.models.spark.fold.values import Number, Vector
from streaming.models.spark.fold.vectors import VECTORS
from streaming.models.spark.guard import OWN
from streaming.models.spark.metadata import Stage

_FEATURES: Final = {**FEATURES, **VECTORS, "SQLTransformer": sql_transformer}
_PREDICT: Final = {**LINEAR, **CALLED}
_EMPTY: Final = "CAST(NULL AS ARRAY<DOUBLE>)"


@dataclass(frozen=True)
class Folded:
    """The expressions of a pipeline for events with columns of certain types."""

    #: Named values, level by level: each level reads the event and the levels before it.
    levels: tuple[Mapping[str, str | Made], ...]
    #: Why a row has no answer; null on a row that has one.
    error: str
    prediction: str
    probability: str
    features: str

    def apply(self, events: DataFrame) -> DataFrame:
        """The events with the four outputs. Lazy."""
        names = events.columns
        rows = events
        for level in (*self.levels, {f"{OWN}error": self.error}):
            rows = rows.select("*", *(_column(events.sparkSession, value).alias(name) for name, value in level.items()))
        good = f"`{OWN}error` IS NULL"
        answers = (f"IF({good}, {self.prediction}, NULL)", _if(good, self.probability), _if(good, self.features), f"`{OWN}error`")
        return rows.select(*map(quoted, names), *(F.expr(sql).alias(name) for name, sql in zip(OUTPUTS, answers, strict=True)))


def _column(spark: SparkSession, value: str | Made) -> Column:
    return F.expr(value) if isinstance(value, str) else column(spark, value)


def _if(good: str, sql: str) -> str:
    return sql if sql == _EMPTY else f"IF({good}, {sql}, NULL)"


def types_of(schema: StructType) -> dict[str, tuple[str, str]]:
    """The columns of events as a Fold wants them: lower case -> (actual name, Spark's name of the type)."""
    return {field.name.lower(): (field.name, field.dataType.simpleString()) for field in schema.fields}


def fold(steps: Sequence[tuple[Stage, Any]], types: Mapping[str, tuple[str, str]], predictor: Stage, *, uri: str) -> Folded:
    """The pipeline of fitted stages over events of these types. CannotFold names the stage that prevents it."""
    steps = opened(steps)
    unknown = [
        f"{stage}: a {stage.name} is not folded" for stage, _ in steps if not (stage.builtin and stage.name in {**_FEATURES, **_PREDICT})
    ]
    if unknown:
        raise CannotFold("; ".join(unknown))
    state, answer = Fold(types), None
    for stage, fitted in steps:
        try:
            answer = _stage(state, stage, fitted, uri) or answer
        except CannotFold as why:
            raise CannotFold(f"{stage}: {why}") from why
    assert answer is not None
    return _finish(state, answer, predictor)


def _stage(state: Fold, stage: Stage, fitted: Any, uri: str) -> FoldedAnswer | None:
    if stage.name in _FEATURES:
        _FEATURES[stage.name](state, stage, fitted)
        return None
    answer = _PREDICT[stage.name](state, replace(stage, folder=f"{uri.rstrip('/')}/{stage.folder}".rstrip("/")), fitted)
    # For the stages of a stacked model, which read what another model has said.
    answer = replace(answer, prediction=state.let(answer.prediction))
    state.write(str(stage.params["predictionCol"]), Number(answer.prediction, nan=True))
    if answer.probability and stage.params.get("probabilityCol"):
        state.write(str(stage.params["probabilityCol"]), Vector(tuple(Number(p, nan=True) for p in answer.probability)))
    return answer


def _finish(state: Fold, answer: FoldedAnswer, predictor: Stage) -> Folded:
    p, where = answer.prediction, predictor.flow()
    state.fail(f"{p} IS NULL", f"{where}: prediction is null")
    state.fail(f"isnan({p})", f"{where}: prediction is NaN")
    state.fail(f"abs({p}) = {text.number(float('inf'))}", f"{where}: prediction is infinite")
    if answer.probability:
        # NaN is the greatest number for SQL.
        shares = [state.let(f"array_max({answer.array})")] if answer.array else answer.probability
        odd = " OR ".join(f"{each} IS NULL OR isnan({each})" for each in shares)
        state.fail(odd, f"{where}: probability is null or NaN")
    cases = " ".join(f"WHEN {condition} THEN {said}" for condition, said in state.failures)
    return Folded(
        levels=tuple(state.levels),
        error=f"CASE {cases} END",
        prediction=p,
        probability=(answer.array or text.array(answer.probability)) if answer.probability else _EMPTY,
        features=answer.features,
    )
