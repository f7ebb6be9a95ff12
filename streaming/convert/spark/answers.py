"""What a saved Spark pipeline answers to NumPy columns, in one batch job: the original that its portable forms are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming.models.spark.pipeline import SparkModel
from streaming.scorers.base import ColumnKind, Columns, Scores


def scores(model: SparkModel, columns: Columns, kinds: Mapping[str, ColumnKind], types: Mapping[str, str]) -> Scores:
    """What `model` itself answers, in one batch job. NaN in a number is null for Spark."""
    n = len(next(iter(columns.values())))
    arrays: dict[str, Any] = {"__row": pa.array(np.arange(n))}
    for name, kind in kinds.items():
        arrays[name] = _arrow(columns[name], kind)
    listed = [
        f"CAST(`{name}` AS {types[name.lower()]}) AS `{name}`" if _cast(kind, name, types) else f"`{name}`" for name, kind in kinds.items()
    ]
    # A checkpoint, because the optimizer would compute a pipeline over rows given as a literal by itself, a hundred times slower.
    events = model.spark.createDataFrame(pa.table(arrays)).selectExpr("__row", *listed).localCheckpoint()
    answers = model.guarded(events).select("__row", "prediction", "probability", "error").toArrow().sort_by("__row")
    error = answers.column("error").to_pylist()
    prediction = np.array(answers.column("prediction").fill_null(float("nan")).to_numpy(), dtype=np.float64)
    rows = answers.column("probability").to_pylist()
    width = max((len(row) for row in rows if row is not None), default=0)
    if not width:
        return Scores(prediction, None, error)
    probability = np.array([row if row is not None else [np.nan] * width for row in rows], dtype=np.float64)
    return Scores(prediction, probability, error)


def _cast(kind: ColumnKind, name: str, types: Mapping[str, str]) -> bool:
    return kind == "number" and name.lower() in types


def _arrow(values: NDArray[Any], kind: ColumnKind) -> Any:
    if kind == "number":
        return pa.array(values, pa.float64(), from_pandas=True)
    if kind == "text":
        return pa.array(list(values), pa.string())
    return pa.array([None if np.isnan(row).all() else row.tolist() for row in values], pa.list_(pa.float64()))
