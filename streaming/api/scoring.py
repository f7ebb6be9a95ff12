"""The answer to each row: a prediction with its model and version, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from streaming.api.instances import columns
from streaming.api.served import Served


def predictions(served: Served, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """One answer per row, in their order; the rows have no problems. `probability` is null unless the model gives one."""
    scores = served.scorer.score(columns(rows, served.inputs))
    predicted, errors = scores.prediction.tolist(), scores.error
    probability = [None] * len(rows) if scores.probability is None else scores.probability.tolist()
    return [
        failure(served, error or "the prediction is not a finite number")
        if error is not None or not math.isfinite(value)
        else {"prediction": value, "probability": finite(shares), "model": served.name, "model_version": served.version}
        for value, shares, error in zip(predicted, probability, errors, strict=True)
    ]


def failure(served: Served, error: str) -> dict[str, object]:
    """The answer to a row that the model cannot score."""
    return {"error": error, "model": served.name, "model_version": served.version}


def finite(values: Sequence[float] | None) -> Sequence[float] | None:
    """The values, or None when JSON has no word for one of them."""
    return values if values is not None and all(map(math.isfinite, values)) else None
