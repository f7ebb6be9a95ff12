"""Answers in whatever form they came, as the Scores that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streaming.errors import ModelError
from streaming.scorers.base import Scores

#: prediction, probability and error, as JSON has them.
RowAnswer = Mapping[str, Any]


def scores(answers: Sequence[RowAnswer]) -> Scores:
    """The answers in their order. An answer without a prediction is an error."""
    error = [None if each.get("prediction") is not None else str(each.get("error") or "no prediction and no error") for each in answers]
    prediction = np.array([np.nan if said else float(each["prediction"]) for each, said in zip(answers, error, strict=True)])
    width = max((len(each["probability"]) for each in answers if each.get("probability") is not None), default=0)
    if not width:
        return Scores(prediction, None, error)
    nothing = [np.nan] * width
    return Scores(prediction, np.array([each.get("probability") or nothing for each in answers], dtype=np.float64), error)


def in_order(answers: Mapping[int, RowAnswer], n: int, form: str) -> list[RowAnswer]:
    """The answers to rows 0 to n - 1. ModelError when one is missing."""
    missing = [row for row in range(n) if row not in answers]
    if missing:
        raise ModelError(f"parity: {form}: {len(missing)} of {n} rows have no answer, the first is row {missing[0]}")
    return [answers[row] for row in range(n)]


def some(of: Scores, rows: Sequence[int]) -> Scores:
    """The answers to these rows alone."""
    at = np.array(rows, dtype=np.int64)
    probability = None if of.probability is None else of.probability[at]
    return replace(of, prediction=of.prediction[at], probability=probability, error=[of.error[row] for row in rows])
