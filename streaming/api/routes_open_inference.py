"""The routes of the Open Inference Protocol, version 2, for clients and gateways that speak it already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from streaming import __version__
from streaming.api import dataplane, open_inference, openapi, request_body
from streaming.api.gate import actor
from streaming.api.instances import columns
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.served import Models, Served
from streaming.api.trail import Trail
from streaming.config.sections import Api
from streaming.scorers.base import ColumnKind


def router(models: Models, settings: Api, metrics: Metrics, trail: Trail) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @routes.get("", **openapi.V2_SERVER)
    async def v2_server() -> Response:
        """The name and version of this service."""
        return reply({"name": "streaming", "version": __version__, "extensions": []})

    @routes.get("/health/live", **openapi.V2_LIVE)
    async def v2_live() -> Response:
        """200 while the process answers."""
        return reply({"live": True})

    @routes.get("/health/ready", **openapi.V2_READY)
    async def v2_ready() -> Response:
        """200 while every model can be asked."""
        return reply({"ready": True})

    @routes.get("/models/{name}", **openapi.V2_MODEL)
    async def v2_model(name: str) -> Response:
        """The tensors that a model takes and gives."""
        return reply(open_inference.metadata(dataplane.model(models, name)))

    @routes.get("/models/{name}/versions/{version}", **openapi.V2_MODEL)
    async def v2_model_version(name: str, version: str) -> Response:
        """The same, if this version is in force."""
        return reply(open_inference.metadata(_version(models, name, version)))

    @routes.get("/models/{name}/ready", **openapi.V2_MODEL_READY)
    async def v2_model_ready(name: str) -> Response:
        """200 while the model can be asked."""
        return reply({"name": dataplane.model(models, name).name, "ready": True})

    @routes.get("/models/{name}/versions/{version}/ready", **openapi.V2_MODEL_READY)
    async def v2_version_ready(name: str, version: str) -> Response:
        """200 while this version can be asked."""
        return reply({"name": _version(models, name, version).name, "ready": True})

    @routes.post("/models/{name}/infer", **openapi.infer(models))
    async def v2_infer(name: str, request: Request) -> Response:
        """Score one tensor per column."""
        return await _infer(dataplane.model(models, name), request)

    @routes.post("/models/{name}/versions/{version}/infer", **openapi.infer(models))
    async def v2_version_infer(name: str, version: str, request: Request) -> Response:
        """Score one tensor per column with this version, if it is in force."""
        return await _infer(_version(models, name, version), request)

    async def _infer(served: Served, request: Request) -> Response:
        content = await request_body.read(request)
        # A long body is parsed beside the event loop, so that others are answered meanwhile.
        read = (content, served.inputs, settings.max_instances)
        tree, rows = await run_in_threadpool(_rows, *read) if len(content) > request_body.INLINE_BYTES else _rows(*read)
        scores = await dataplane.scored(len(rows), served.scorer.score, columns(rows, served.inputs))
        errors = sum(error is not None for error in scores.error)
        metrics.rows(model=served.name, scored=len(rows) - errors, errors=errors)
        trail.count(actor(request.scope), served, rows=len(rows), errors=errors)
        return reply(open_inference.response(tree, served, scores))

    return routes


def _rows(content: bytes, inputs: Mapping[str, ColumnKind], most: int) -> tuple[Any, list[dict[str, Any]]]:
    tree = request_body.parsed(content)
    try:
        return tree, open_inference.rows(tree, inputs, most=most)
    except open_inference.Refused as wrong:
        raise Refusal(400, str(wrong)) from None


def _version(models: Models, name: str, version: str) -> Served:
    served = dataplane.model(models, name)
    if served.version != version:
        raise Refusal(404, f"this version is not served; in force: {served.version}")
    return served
