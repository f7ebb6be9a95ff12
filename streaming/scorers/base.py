"""What every model that scores without Spark promises: plain columns in, plain columns out. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

#: What a column holds. number: float64, NaN where null. text: objects, str or None. vector: float64 of shape (n, size).
ColumnKind = Literal["number", "text", "vector"]

Columns = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Scores:
    """The answers to n rows. A row has a prediction or an error, never both and never neither."""

    #: float64 (n,); NaN on the rows that have an error. Classifiers: the index of the class.
    prediction: NDArray[np.float64]
    #: float64 (n, classes), or None when the model gives none; NaN on the rows that have an error.
    probability: NDArray[np.float64] | None
    #: Per row None, or why it could not be scored, naming columns but never values.
    error: Sequence[str | None]


@runtime_checkable
class Scorer(Protocol):
    """A saved model, ready to score in this process; safe to call from several threads."""

    def inputs(self) -> Mapping[str, ColumnKind]:
        """The columns the model reads. A model that takes one matrix without column names reads the vector `features`."""

    def score(self, columns: Columns) -> Scores:
        """Score n rows; what a row gets depends on that row alone.

        `columns` holds at least the inputs, all n long; others are ignored. Zero rows give empty Scores. Null and
        unseen values are scored if the model can and are the row's error if not; they never raise. ModelError when a
        column is missing or of another kind.
        """
