"""The routes under /v1: predict, explain, look up, and what is served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from streaming import secrets
from streaming.api import contributions, instances, openapi, scoring
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from streaming.errors import StreamingError

#: Up to here a request is scored in the event loop: handing it to a thread and back costs more than scoring it.
INLINE_ROWS: Final = 16
#: Rows that one request may have explained; each is scored once more for every field.
MOST_EXPLAINED: Final = 50
#: How long a client may take to send its body.
_BODY_S: Final = 30.0
_Answer = TypeVar("_Answer")


class Lookup(Protocol):
    """The one thing this service asks of an operational store."""

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity; an empty list for an unknown one."""


class Predict(Protocol):
    """The answer to one request for predictions."""

    async def __call__(self, name: str, request: Request) -> Response:
        """Score the rows of the request's body with the model `name`. Refusal when they do not fit."""


def predictor(models: Models, settings: Api, metrics: Metrics) -> Predict:
    """The function behind POST /v1/models/{name}:predict."""

    async def predict(name: str, request: Request) -> Response:
        """Score rows: `{"instances": [{…}, …]}`, or `{"instance": {…}}` for one."""
        served = model(models, name)
        rows = checked(await body(request), served, most=settings.max_instances)
        answers = await scored(len(rows), scoring.predictions, served, rows)
        count(metrics, served, answers)
        return reply({"predictions": answers})

    return predict


def router(models: Models, store: Lookup | None, settings: Api, metrics: Metrics, *, predict: Predict, no_store: str) -> APIRouter:
    """The routes. `no_store` says why there is no store when `store` is None."""
    routes = APIRouter()

    routes.post("/v1/models/{name}:predict", **openapi.predict(models))(predict)

    @routes.post("/v1/models/{name}:explain", **openapi.explain(models))
    async def explain_(name: str, request: Request) -> Response:
        """Say what drives each prediction, field by field: exact for linear models, by leaving each field out for others."""
        served = model(models, name)
        rows = checked(await body(request), served, most=min(MOST_EXPLAINED, settings.max_instances))
        answers = await scored(len(rows) * max(len(served.inputs), 1), contributions.explanations, served, rows)
        count(metrics, served, answers)
        return reply({"explanations": answers})

    @routes.post("/v1/models/{name}:reload", **openapi.RELOAD)
    async def reload(name: str) -> Response:
        """Look for a new version now. A broken one is refused with 409, and the old one stays in force."""
        model(models, name)
        outcome = await run_in_threadpool(models.refresh, name)
        metrics.reloaded(outcome)
        if outcome.error is not None:
            raise Refusal(409, f"version {outcome.served.version} stays in force; the new one is refused: {outcome.error}")
        return reply({"model": name, "model_version": outcome.served.version, "changed": outcome.changed})

    @routes.get("/v1/models", **openapi.MODELS)
    async def list_models() -> Response:
        """Every model that is served, with its version."""
        return reply({"models": [card(served) for served in models.all()]})

    @routes.get("/v1/models/{name}", **openapi.MODEL)
    async def get_model(name: str) -> Response:
        """One model: its version, and the fields it reads."""
        return reply(card(model(models, name)))

    @routes.get("/v1/predictions/{key:path}", **openapi.PREDICTIONS)
    async def get_predictions(key: str) -> Response:
        """The stored predictions of one entity, one per model, as the streaming job wrote them last."""
        if store is None:
            raise Refusal(501, no_store)
        if not key or "\0" in key:
            raise Refusal(404, "no prediction is stored under this key")
        try:
            rows = await run_in_threadpool(store.get, key)
        except StreamingError as refused:
            raise Refusal(503, secrets.redact(f"the store does not answer: {refused}")) from refused
        if not rows:
            raise Refusal(404, "no prediction is stored under this key")
        return reply({"key": key, "predictions": [plain(row) for row in rows]})

    return routes


async def body(request: Request) -> bytes:
    """The whole body, which the gate keeps short. Refusal when it does not come in time."""
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.body()
    except ClientDisconnect:
        raise Refusal(400, "the client went away before its body was complete") from None
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_BODY_S:.0f} s", headers={"connection": "close"}) from None


def model(models: Models, name: str) -> Served:
    """The version in force. Refusal 404 with the names there are."""
    served = models.get(name)
    if served is None:
        raise Refusal(404, f"no such model; served here: {', '.join(each.name for each in models.all())}")
    return served


def checked(content: bytes, served: Served, *, most: int) -> list[Any]:
    """The rows of a body, fit for the model. Refusal 422 that names instance and field of everything that is wrong."""
    tree = parsed(content)
    if isinstance(tree, dict) and tree.keys() == {"instances"} and isinstance(tree["instances"], list):
        rows = tree["instances"]
    elif isinstance(tree, dict) and tree.keys() == {"instance"}:
        rows = [tree["instance"]]
    else:
        raise Refusal(422, 'expected {"instances": [{…}, …]} or {"instance": {…}} and nothing else beside it')
    if len(rows) > most:
        raise Refusal(422, f"{len(rows)} instances, expected at most {most} in one request")
    found = instances.problems(rows, served.inputs)
    if found:
        raise Refusal(422, _summary(found), problems=found)
    return rows


def parsed(content: bytes) -> Any:
    """The JSON value of a body. Refusal 422 when it is none."""
    try:
        return instances.parse(content)
    except instances.Unreadable as broken:
        raise Refusal(422, str(broken)) from None


async def scored(rows: int, work: Callable[..., _Answer], *args: Any) -> _Answer:
    """The answer of `work`, in this thread when there is little to do. Refusal 422 when the model does not take the columns."""
    try:
        return work(*args) if rows <= INLINE_ROWS else await run_in_threadpool(work, *args)
    except StreamingError as refused:
        raise Refusal(422, secrets.redact(f"the model does not take these columns: {refused}")) from refused


def count(metrics: Metrics, served: Served, answers: Sequence[Mapping[str, object]]) -> None:
    """Count the rows of one request."""
    errors = sum("error" in answer for answer in answers)
    metrics.rows(model=served.name, scored=len(answers) - errors, errors=errors)


def card(served: Served) -> dict[str, object]:
    """What callers and the page get to know about a model."""
    inputs = [{"name": name, "kind": kind, "categories": list(served.categories.get(name, ()))} for name, kind in served.inputs.items()]
    return {
        "name": served.name,
        "version": served.version,
        "sha256": served.sha256,
        "loaded_at": served.loaded_at.isoformat(),
        "outcome": served.outcome,
        "entity": served.entity,
        "inputs": inputs,
        "example": dict(served.example),
    }


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """A stored row as JSON can say it: times as ISO 8601, not-a-number as null."""
    made: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            made[name] = value.isoformat()
        elif isinstance(value, float):
            made[name] = value if math.isfinite(value) else None
        elif isinstance(value, list):
            made[name] = scoring.finite(value)
        else:
            made[name] = value
    return made


def _summary(found: Sequence[instances.Problem]) -> str:
    first = found[0]
    where = f"instance {first.instance}" + (f", field {first.field}" if first.field is not None else "")
    return f"{where}: {first.error}" + (f" (and {len(found) - 1} more, see errors)" if len(found) > 1 else "")
