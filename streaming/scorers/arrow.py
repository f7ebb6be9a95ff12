"""Between Arrow arrays and a scorer's NumPy columns. No Spark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming.scorers.base import ColumnKind, Columns, Scores

Rows = NDArray[np.int64]


def columns(kinds: Mapping[str, ColumnKind], arrays: Sequence[pa.Array], errors: list[str | None]) -> Iterator[tuple[Rows, Columns]]:
    """The rows that can be scored together, with their columns: all at once, but for vectors, which must be equally long.

    `arrays`: DOUBLE, STRING or LIST<DOUBLE>, in the order of `kinds`. A row whose vector is null is left out, and its
    place in `errors` says so.
    """
    n = len(arrays[0]) if arrays else 0
    plain: dict[str, NDArray[Any]] = {}
    vectors: dict[str, pa.Array] = {}
    for (name, kind), array in zip(kinds.items(), arrays, strict=True):
        if kind == "vector":
            vectors[name] = array
        else:
            plain[name] = array.to_numpy(zero_copy_only=False)  # null: NaN in numbers, None in text
    if n == 0:
        return
    if not vectors:
        yield np.arange(n), plain
        return
    lengths = np.full((n, len(vectors)), -1)
    for place, (name, array) in enumerate(vectors.items()):
        given = np.asarray(array.is_valid())
        offsets = array.offsets.to_numpy()
        lengths[given, place] = (offsets[1:] - offsets[:-1])[given]
        for row in np.flatnonzero(~given):
            errors[row] = errors[row] or f"{name} is null"
    for sizes in np.unique(lengths, axis=0):
        rows = np.flatnonzero((lengths == sizes).all(axis=1))
        if (sizes >= 0).all():
            matrices = {
                name: _matrix(array.take(pa.array(rows)), len(rows), int(size))
                for (name, array), size in zip(vectors.items(), sizes, strict=True)
            }
            yield rows, {**{name: values[rows] for name, values in plain.items()}, **matrices}


def _matrix(array: pa.Array, n: int, size: int) -> NDArray[np.float64]:
    values: NDArray[np.float64] = array.flatten().to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return values.reshape(n, size)


def failed(n: int, why: str) -> Scores:
    """The scores of n rows that all have the same error."""
    return Scores(np.full(n, np.nan), None, [why] * n)


def answers(n: int, parts: Sequence[tuple[Rows, Scores]], errors: list[str | None]) -> pa.Array:
    """A struct of prediction, probability and error for each of n rows. A prediction that is no finite number is an error."""
    prediction = np.full(n, np.nan)
    width = max((s.probability.shape[1] for _, s in parts if s.probability is not None), default=0)
    probability = np.full((n, width), np.nan)
    texts = np.array(errors, dtype=object)
    for rows, scores in parts:
        prediction[rows] = scores.prediction
        if scores.probability is not None:
            probability[rows] = scores.probability
        texts[rows] = np.array(scores.error, dtype=object)
    good = np.array([text is None for text in texts], dtype=bool)
    texts[good & ~np.isfinite(prediction)] = "the prediction is NaN or infinite"
    if width:
        texts[good & ~np.isfinite(probability).all(axis=1)] = "a probability is NaN or infinite"
    bad = np.array([text is not None for text in texts], dtype=bool)
    if width:
        offsets = pa.array(np.arange(0, (n + 1) * width, width, dtype=np.int32))
        lists = pa.ListArray.from_arrays(offsets, pa.array(probability.ravel()), mask=pa.array(bad))
    else:
        lists = pa.nulls(n, pa.list_(pa.float64()))
    return pa.StructArray.from_arrays(
        [pa.array(prediction, mask=bad), lists, pa.array(texts, pa.string())], names=["prediction", "probability", "error"]
    )
