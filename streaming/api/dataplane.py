"""What every route asks of the models: the version in force, rows scored, rows counted. Between routes and scorers; no HTTP beside refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool

from streaming import secrets
from streaming.api.instances import columns
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal
from streaming.api.served import Models, Served
from streaming.errors import StreamingError

#: Up to here a request is scored in the event loop: handing it to a thread and back costs more than scoring it.
INLINE_ROWS: Final = 16
_Scored = TypeVar("_Scored")


def model(models: Models, name: str) -> Served:
    """The version in force. Refusal 404 with the names there are."""
    served = models.get(name)
    if served is None:
        raise Refusal(404, f"no such model; served here: {', '.join(each.name for each in models.all())}")
    return served


async def scored(rows: int, work: Callable[..., _Scored], *args: Any) -> _Scored:
    """The answer of `work`, in this thread when there is little to do and nothing to wait for. Refusal 422 when the model does not take the columns."""
    try:
        inline = rows <= INLINE_ROWS and not any(map(_waits, (getattr(work, "__self__", None), *args)))
        return work(*args) if inline else await run_in_threadpool(work, *args)
    except StreamingError as refused:
        raise Refusal(422, secrets.redact(f"the model does not take these columns: {refused}")) from refused


def _waits(argument: object) -> bool:
    """True for a model in a process of its own."""
    return bool(getattr(argument.scorer if isinstance(argument, Served) else argument, "waits", False))


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


def count(metrics: Metrics, served: Served, answers: Sequence[Mapping[str, object]]) -> None:
    """Count the rows of one request."""
    errors = sum("error" in answer for answer in answers)
    metrics.rows(model=served.name, scored=len(answers) - errors, errors=errors)
