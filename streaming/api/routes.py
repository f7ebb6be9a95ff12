"""The routes under /v1: predict, explain, look up, and what is served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from streaming import secrets
from streaming.api import contributions, dataplane, openapi, request_body
from streaming.api.gate import actor
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.served import Models, Served
from streaming.api.trail import Trail
from streaming.config.sections import Api
from streaming.errors import StateError, StoreUnavailable, StreamingError

#: Rows that one request may have explained; each is scored once more for every field.
MOST_EXPLAINED: Final = 50


class Lookup(Protocol):
    """The one thing this service asks of an operational store."""

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity; an empty list for an unknown one."""


class BoundedLookup:
    """A store that is asked by so many at once, for so long, and in threads of its own: one that hangs takes none of those that score."""

    def __init__(self, store: Lookup, *, at_once: int = 16, seconds: float = 10.0) -> None:
        self._store, self._limiter, self._seconds = store, CapacityLimiter(at_once), seconds

    async def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity. StoreUnavailable when they do not come in time, also when all who may ask are waiting."""
        try:
            async with asyncio.timeout(self._seconds):
                return await to_thread.run_sync(self._store.get, key, abandon_on_cancel=True, limiter=self._limiter)
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {self._seconds:.0f} s; ask again later") from None


class EventLookup(Protocol):
    """The fields of the event behind a stored prediction."""

    def of(self, event_id: str, names: Collection[str]) -> dict[str, Any]:
        """The values of those fields. StreamingError when they cannot be had."""


class Predict(Protocol):
    """The answer to one request for predictions."""

    async def __call__(self, name: str, request: Request) -> Response:
        """Score the rows of the request's body with the model `name`. Refusal when they do not fit."""


def predictor(models: Models, settings: Api, metrics: Metrics, trail: Trail) -> Predict:
    """The function behind POST /v1/models/{name}:predict."""

    async def predict(name: str, request: Request) -> Response:
        """Score rows: `{"instances": [{…}, …]}`, or `{"instance": {…}}` for one."""
        served = dataplane.model(models, name)
        rows = await request_body.rows(request, served, most=settings.max_instances)
        answers = await dataplane.scored(len(rows), dataplane.predictions, served, rows)
        dataplane.count(metrics, served, answers)
        trail.predicted(actor(request.scope), served, answers)
        return reply({"predictions": answers})

    return predict


def router(
    models: Models,
    store: BoundedLookup | None,
    settings: Api,
    metrics: Metrics,
    *,
    predict: Predict,
    trail: Trail,
    no_store: str,
    events: EventLookup | None = None,
) -> APIRouter:
    """The routes. `no_store` says why there is no store when `store` is None; without `events` no event is read again."""
    routes = APIRouter()

    routes.post("/v1/models/{name}:predict", **openapi.predict(models))(predict)

    @routes.post("/v1/models/{name}:explain", **openapi.explain(models))
    async def explain_(name: str, request: Request) -> Response:
        """Say what drives each prediction, field by field: exact for linear models, by leaving each field out for others."""
        served = dataplane.model(models, name)
        rows = await request_body.rows(request, served, most=min(MOST_EXPLAINED, settings.max_instances))
        answers = await dataplane.scored(len(rows) * max(len(served.inputs), 1), contributions.explanations, served, rows)
        dataplane.count(metrics, served, answers)
        trail.predicted(actor(request.scope), served, answers)
        return reply({"explanations": answers})

    @routes.post("/v1/models/{name}:reload", **openapi.RELOAD)
    async def reload(name: str, request: Request) -> Response:
        """Look for a new version now. A broken one is refused with 409, and the old one stays in force."""
        before = dataplane.model(models, name)
        try:
            outcome = await run_in_threadpool(trail.refreshed, actor(request.scope), before, partial(models.refresh, name))
        except StateError as unrecorded:
            raise Refusal(503, str(unrecorded)) from unrecorded
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
        return reply(card(dataplane.model(models, name)))

    @routes.get("/v1/predictions/{key:path}", **openapi.PREDICTIONS)
    async def get_predictions(key: str, fields_of: str | None = None) -> Response:
        """The stored predictions of one entity, one per model, as the streaming job wrote them last.

        `fields_of`: a model; the fields that it reads are then told as the newest of these events had them.
        """
        if store is None:
            raise Refusal(501, no_store)
        if not key or "\0" in key:
            raise Refusal(404, "no prediction is stored under this key")
        try:
            rows = await store.get(key)
        except StreamingError as refused:
            raise Refusal(503, secrets.redact(f"the store does not answer: {refused}")) from refused
        if not rows:
            raise Refusal(404, "no prediction is stored under this key")
        found: dict[str, object] = {"key": key, "predictions": [plain(row) for row in rows]}
        if fields_of is not None:
            found["event"] = await run_in_threadpool(event, events, dataplane.model(models, fields_of), rows)
        return reply(found)

    return routes


def event(events: EventLookup | None, served: Served, rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """The fields that the model reads, from the newest event of these rows; or in words why they cannot be had."""
    if events is None:
        return {"words": "this service does not read events again"}
    event_id = str(max(rows, key=lambda row: row["event_time"])["event_id"])
    try:
        return {"event_id": event_id, "fields": events.of(event_id, served.inputs)}
    except StreamingError as refused:
        return {"event_id": event_id, "words": secrets.redact(str(refused))}


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
            made[name] = dataplane.finite(value)
        else:
            made[name] = value
    return made
