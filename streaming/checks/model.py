"""The contract of a model, as plain functions: each takes a model and events that it can score, and fails with AssertionError.

    from streaming.checks.model import MODEL_CHECKS

    @pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda check: check.__name__)
    def test_my_model(check, events):
        check(my_model(), events)

`events`: a few dozen rows, all of which the model can score. Checks that are given the very same model and events score them once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row
from pyspark.sql.types import ArrayType, DoubleType, FloatType, IntegralType, StringType, StructField, StructType

from streaming.models.base import OUTPUTS, Model
from streaming.models.columns import quoted

_TYPES: Final = {
    "prediction": DoubleType(),
    "probability": ArrayType(DoubleType()),
    "features": ArrayType(DoubleType()),
    "error": StringType(),
}


def _plain(value: Any) -> Any:
    """A value that equals itself: NaN and numbers by their text, arrays as tuples."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return repr(value) if isinstance(value, dict | bytearray) else value


def _bag(rows: Iterable[Row]) -> Counter[Any]:
    return Counter(_plain(tuple(row)) for row in rows)


def _scored(model: Model, events: DataFrame) -> list[Row]:
    try:
        return model.transform(events).collect()
    except PySparkException as stopped:
        raise AssertionError(f"a row stopped the job: {str(stopped).splitlines()[0]}") from stopped


#: The model and the events that were scored last, and the answers.
_LAST: list[tuple[Model, DataFrame, list[Row]]] = []


def _answers(model: Model, events: DataFrame) -> list[Row]:
    """What `model` says of `events`, computed once for checks that follow each other: a plan of a wide model takes a second."""
    if not _LAST or _LAST[0][0] is not model or _LAST[0][1] is not events:
        _LAST[:] = [(model, events, _scored(model, events))]
    return _LAST[0][2]


def check_keeps_every_row_and_column(model: Model, events: DataFrame) -> None:
    """The event's columns come first, with their values, and every row is there once."""
    columns = model.transform(events).columns
    assert columns == [*events.columns, *OUTPUTS], f"columns {columns}"
    kept = _bag(row[: len(events.columns)] for row in _answers(model, events))
    assert kept == _bag(events.collect()), "rows are lost, changed or doubled"


def check_outputs_have_their_types(model: Model, events: DataFrame) -> None:
    """prediction DOUBLE, probability and features ARRAY<DOUBLE>, error STRING."""
    schema = model.transform(events).schema
    for name, expected in _TYPES.items():
        actual = schema[name].dataType
        if isinstance(actual, ArrayType):
            actual = ArrayType(actual.elementType)
        assert actual == expected, f"{name} is {actual.simpleString()}, expected {expected.simpleString()}"


def check_scores_good_rows(model: Model, events: DataFrame) -> None:
    """Every row of `events` gets a finite prediction and no error; probabilities sum to 1, as float32 knows it."""
    for row in _answers(model, events):
        assert row["error"] is None, f"error {row['error']}"
        assert row["prediction"] is not None, "prediction is null"
        assert math.isfinite(row["prediction"]), f"prediction {row['prediction']}"
        if row["probability"] is not None:
            assert abs(sum(row["probability"]) - 1) < 1e-6, f"probability {row['probability']}"


def check_is_lazy(model: Model, events: DataFrame) -> None:
    """`transform` runs no job."""
    context = events.sparkSession.sparkContext
    group = f"lazy-{uuid4().hex}"
    context.setJobGroup(group, "model contract")
    try:
        model.transform(events)
        jobs = context.statusTracker().getJobIdsForGroup(group)
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]
        context.setLocalProperty("spark.job.description", None)  # type: ignore[arg-type]
    assert list(jobs) == [], f"transform started {len(jobs)} jobs"


def check_empty_frame(model: Model, events: DataFrame) -> None:
    """No rows in, no rows out."""
    assert _scored(model, events.limit(0)) == []


def check_null_never_raises(model: Model, events: DataFrame) -> None:
    """A null in each input, one at a time and all together: each row out once, with either a prediction or an error."""
    names = _inputs(model, events)
    _check_odd(model, events, [dict.fromkeys(nulls) for nulls in [*([name] for name in names), names]])


def check_odd_values_never_raise(model: Model, events: DataFrame) -> None:
    """An unseen or empty text, NaN, infinite and huge numbers, an array too short or too long: as for null."""
    _check_odd(model, events, [{name: odd} for name in _inputs(model, events) for odd in _odd_values(events.schema[name])])


def check_deterministic(model: Model, events: DataFrame) -> None:
    """The same rows give the same answers, down to the last bit."""
    assert _bag(_answers(model, events)) == _bag(_scored(model, events)), "two runs differ"


def check_one_row_is_scored_as_in_a_batch(model: Model, events: DataFrame) -> None:
    """What a row gets depends on the row alone."""
    few = events.limit(3).collect()
    each_in_a_partition = events.sparkSession.sparkContext.parallelize(few, len(few))
    alone = _scored(model, events.sparkSession.createDataFrame(each_in_a_partition, events.schema))
    assert not _bag(alone) - _bag(_answers(model, events)), "a row alone is scored otherwise than among others"


def check_says_what_it_reads(model: Model, events: DataFrame) -> None:
    """`inputs` names columns of the events; the other columns do not matter."""
    names = _inputs(model, events)
    only = events.select(*map(quoted, names))
    answers = _bag(row[-len(OUTPUTS) :] for row in _answers(model, events))
    assert _bag(row[-len(OUTPUTS) :] for row in _scored(model, only)) == answers, "columns beside the inputs matter"


def _check_odd(model: Model, events: DataFrame, changes: list[dict[str, Any]]) -> None:
    """The first of `events` with each of `changes`, all in one frame; where that fails, one by one, to name the culprit."""
    first = events.first()
    assert first is not None, "expected events"
    schema = StructType([StructField(f.name, f.dataType) for f in events.schema.fields])
    rows = [tuple((first.asDict() | change)[name] for name in events.columns) for change in changes]
    try:
        _check_answers(_scored(model, events.sparkSession.createDataFrame(rows, schema)), len(rows))
    except AssertionError:
        for row, change in zip(rows, changes, strict=True):
            try:
                _check_answers(_scored(model, events.sparkSession.createDataFrame([row], schema)), 1)
            except AssertionError as wrong:
                raise AssertionError(f"{', '.join(f'{name} = {value!r:.40}' for name, value in change.items())}: {wrong}") from wrong
        raise


def _check_answers(rows: list[Row], expected: int) -> None:
    assert len(rows) == expected, f"{len(rows)} rows for {expected} events"
    for row in rows:
        assert (row["prediction"] is None) != (row["error"] is None), f"prediction {row['prediction']}, error {row['error']}"
        assert row["prediction"] is None or math.isfinite(row["prediction"]), f"prediction {row['prediction']}"


def _inputs(model: Model, events: DataFrame) -> list[str]:
    declared: StructType = model.inputs()
    actual = {name.lower(): name for name in events.columns}
    absent = [f.name for f in declared.fields if f.name.lower() not in actual]
    assert not absent, f"inputs() names {absent}, which the events do not have"
    return [actual[f.name.lower()] for f in declared.fields]


def _odd_values(column: StructField) -> list[Any]:
    kind = column.dataType
    if isinstance(kind, StringType):
        return ["never seen before", "", "\u0000", "x" * 100_000]
    if isinstance(kind, DoubleType | FloatType):
        return [math.nan, math.inf, -math.inf, 1e308 if isinstance(kind, DoubleType) else 3e38, -1.0, 0.0]
    if isinstance(kind, IntegralType):
        return [-1, 0, 127]
    return [[], [None], [math.nan], [1.0] * 1_000] if kind == ArrayType(DoubleType()) else []


MODEL_CHECKS: Final = (
    check_keeps_every_row_and_column,
    check_outputs_have_their_types,
    check_scores_good_rows,
    check_is_lazy,
    check_empty_frame,
    check_null_never_raises,
    check_odd_values_never_raise,
    check_deterministic,
    check_one_row_is_scored_as_in_a_batch,
    check_says_what_it_reads,
)
