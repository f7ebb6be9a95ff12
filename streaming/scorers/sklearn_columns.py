"""What a fitted scikit-learn estimator reads: the kind of each column, what stands for null, and the texts it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streaming.errors import ModelError
from streaming.scorers.base import ColumnKind, Columns

_LARGEST: Final = float(np.finfo(np.float32).max)
#: A value of each oddity that a number can have.
ODD_NUMBERS: Final = {"null": math.nan, "infinite": math.inf, "huge": 1e300}
WORDS: Final = {
    "null": "is null or NaN",
    "infinite": "is infinite",
    "huge": "is too large for 32 bits",
    "unseen": "has a value that the model has never seen",
}
#: Longer than any category, and nobody's name.
_NEVER_SEEN: Final = "\x00 never seen \x00"


@dataclass(frozen=True)
class EstimatorColumn:
    """One column that the estimator reads."""

    name: str
    kind: ColumnKind
    #: What stands for null in text: None or NaN, as the training data had it. Numbers always have NaN.
    null: Any = math.nan
    #: The texts the estimator knows, or None when it does not say.
    known: frozenset[str] | None = None


def columns_of(estimator: Any, signature: Sequence[EstimatorColumn] = ()) -> tuple[EstimatorColumn, ...]:
    """The fitted columns, in order; without names, those of the signature; else none: the estimator was fitted on a matrix.

    A column is a number unless the estimator shows that it holds text, or the signature says so.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return tuple(signature)
    otherwise = {column.name: column for column in signature}
    known_columns: dict[int, EstimatorColumn] = {}
    for index, reader, categories in _readers(estimator, list(range(len(names)))):
        column = _column(str(names[index]), reader, categories)
        # What comes first says what stands for null; what says which texts it knows may come later.
        first = known_columns.setdefault(index, column)
        if first.known is None and column.known is not None:
            known_columns[index] = replace(first, known=column.known)
    return tuple(
        known_columns.get(index) or otherwise.get(str(name)) or EstimatorColumn(str(name), "number") for index, name in enumerate(names)
    )


def _readers(estimator: Any, indexes: list[int]) -> Iterator[tuple[int, Any, Any]]:
    """For each column its first reader that can say what the column holds, with the categories it knows, or None."""
    if hasattr(estimator, "steps"):
        # What the first step leaves as it is (an imputer, "passthrough"), the next one may know more about.
        for _, step in estimator.steps:
            if step is None or isinstance(step, str):
                continue
            yield from _readers(step, indexes)
            if type(step).__name__ != "SimpleImputer":
                return
    elif hasattr(estimator, "transformers_"):
        for name, transformer, _ in estimator.transformers_:
            inner = list(estimator._transformer_to_input_indices[name])
            if not isinstance(transformer, str):
                yield from _readers(transformer, [indexes[i] for i in inner])
    elif hasattr(estimator, "transformer_list"):
        for _, transformer in estimator.transformer_list:
            if not isinstance(transformer, str):
                yield from _readers(transformer, indexes)
    elif len(getattr(estimator, "categories_", ())) == len(indexes):
        yield from ((index, estimator, texts) for index, texts in zip(indexes, estimator.categories_, strict=True))
    elif hasattr(estimator, "statistics_") or _is_vectorizer(estimator):
        yield from ((index, estimator, None) for index in indexes)


def _is_vectorizer(estimator: Any) -> bool:
    return hasattr(estimator, "build_analyzer")


def _column(name: str, reader: Any, categories: Any) -> EstimatorColumn:
    if categories is not None:
        if np.asarray(categories).dtype.kind not in "OUST":
            return EstimatorColumn(name, "number")
        texts = frozenset(value for value in categories if isinstance(value, str))
        if not texts:
            return EstimatorColumn(name, "number")
        return EstimatorColumn(name, "text", None if any(value is None for value in categories) else math.nan, texts)
    if _is_vectorizer(reader):
        return EstimatorColumn(name, "text", None)
    if np.asarray(reader.statistics_).dtype.kind in "OUST":
        return EstimatorColumn(name, "text", None if reader.missing_values is None else math.nan)
    return EstimatorColumn(name, "number")


def frame(uri: str, wanted: Sequence[EstimatorColumn], columns: Columns) -> pd.DataFrame:
    """The columns as the DataFrame that the estimator was fitted on. ModelError when one is missing or of another kind."""
    made: dict[str, Any] = {}
    for column in wanted:
        values = columns.get(column.name)
        if values is None:
            raise ModelError(f"{uri}: no column {column.name!r}; the model reads {', '.join(c.name for c in wanted)}")
        if values.ndim != 1 or (values.dtype == object) != (column.kind == "text"):
            raise ModelError(f"{uri}: column {column.name!r}: expected {column.kind}, got {values.dtype} of {values.ndim} dimensions")
        if column.kind == "text" and column.null is not None:
            nulls = pd.isna(values)
            values = np.where(nulls, column.null, values) if nulls.any() else values
        made[column.name] = values
    return pd.DataFrame(made, copy=False)


def take(table: Any, rows: NDArray[Any]) -> Any:
    """Those rows of a DataFrame or a matrix."""
    return table.iloc[rows] if isinstance(table, pd.DataFrame) else table[rows]


def oddities(columns: Sequence[EstimatorColumn], table: pd.DataFrame) -> list[tuple[tuple[str, str], NDArray[np.bool_]]]:
    """Where each column has null, infinite, huge or unseen values."""
    odd = []
    for column in columns:
        values = table[column.name].to_numpy()
        if column.kind == "number":
            odd += [((column.name, oddity), where) for oddity, where in number_oddities(values)]
            continue
        nulls = pd.isna(values)
        odd.append(((column.name, "null"), nulls))
        if column.known is not None:
            odd.append(((column.name, "unseen"), ~nulls & ~np.isin(values.astype(str), list(column.known))))
    return odd


def number_oddities(values: NDArray[Any]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Per row, whether any of its numbers is null, infinite or huge."""
    rows = values.reshape(len(values), -1)
    with np.errstate(invalid="ignore"):
        huge = np.isfinite(rows) & (np.abs(rows) > _LARGEST)
    return [("null", np.isnan(rows).any(axis=1)), ("infinite", np.isinf(rows).any(axis=1)), ("huge", huge.any(axis=1))]


def example(columns: Sequence[EstimatorColumn]) -> pd.DataFrame:
    """One row that most models take."""
    values: dict[str, NDArray[Any]] = {
        c.name: np.array([0.0 if c.kind == "number" else min(c.known or {""})], dtype=_dtype(c)) for c in columns
    }
    return pd.DataFrame(values)


def spoiled(columns: Sequence[EstimatorColumn], row: pd.DataFrame, name: str, oddity: str) -> pd.DataFrame:
    """The row with an odd value in the column `name`."""
    column = next(c for c in columns if c.name == name)
    value = column.null if column.kind == "text" and oddity == "null" else ODD_NUMBERS.get(oddity, _NEVER_SEEN)
    return row.assign(**{name: np.array([value], dtype=_dtype(column))})


def _dtype(column: EstimatorColumn) -> type:
    return object if column.kind == "text" else np.float64
