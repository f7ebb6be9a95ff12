"""The routes under /v1/models: predict, explain, reload, and what is served."""

from __future__ import annotations

from functools import partial
from typing import Final, Protocol

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from streaming.api import contributions, dataplane, openapi, request_body
from streaming.api.gate import actor
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.served import Models, Served
from streaming.api.trail import Trail
from streaming.config.sections import Api
from streaming.errors import StateError

#: Rows that one request may have explained; each is scored once more for every field.
MOST_EXPLAINED: Final = 50


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


def router(models: Models, settings: Api, metrics: Metrics, *, predict: Predict, trail: Trail) -> APIRouter:
    """The routes."""
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

    return routes


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
