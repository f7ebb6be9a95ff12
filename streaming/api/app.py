"""The application: every route, behind one gate, over models and a store that are handed in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from streaming import __version__, secrets
from streaming.api import openapi, routes, routes_health, routes_open_inference, routes_stored
from streaming.api.fast_path import FastPath
from streaming.api.gate import Gate
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.routes_stored import BoundedLookup, EventLookup, Lookup
from streaming.api.served import Models
from streaming.api.tokens import Tokens
from streaming.api.trail import Trail
from streaming.config.sections import Api
from streaming.config.values import seconds
from streaming.errors import StreamingError
from streaming.runtime.audit import AuditLog

log: Final = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "page"


def create_app(
    models: Models,
    store: Lookup | None,
    settings: Api,
    *,
    no_store: str = "no store is configured",
    also: Sequence[Callable[[], None]] = (),
    health: Callable[[], dict[str, Any]] | None = None,
    events: EventLookup | None = None,
    audit: AuditLog | None = None,
) -> FastAPI:
    """The application. `no_store` is the answer to lookups when `store` is None. While it runs it watches for new versions.

    `health` reports on the job and the monitor for the page Health; None: nothing is known of them. `events` reads
    the event behind a stored prediction again.

    ConfigError when the file of api.tokens cannot be read.
    """
    metrics, tokens, trail = Metrics(), Tokens(settings), Trail(audit)

    @asynccontextmanager
    async def watching(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(watch(models, metrics, trail, seconds(settings.watch), also=(tokens.look, *also)))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await run_in_threadpool(trail.flush)

    app = FastAPI(
        title="Scoring service",
        version=__version__,
        description="Predictions of saved models. Send the token as `Authorization: Bearer TOKEN`.",
        lifespan=watching,
        docs_url=None,
        redoc_url=None,
    )
    bounded = None if store is None else BoundedLookup(store)
    predict = routes.predictor(models, settings, metrics, trail)
    app.add_middleware(FastPath, predict=predict)
    app.add_middleware(Gate, settings=settings, metrics=metrics, tokens=tokens)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _broken)
    app.include_router(routes.router(models, settings, metrics, predict=predict, trail=trail))
    app.include_router(routes_stored.router(models, bounded, no_store=no_store, events=events))
    app.include_router(routes_open_inference.router(models, settings, metrics, trail))
    app.include_router(routes_health.router(models, bounded, metrics, tokens, report=health))
    document = openapi.with_names(app.openapi(), models)
    app.openapi = lambda: document  # type: ignore[method-assign]
    for path, file in {"/": "index.html", "/health": "health.html", "/docs": "docs.html", "/favicon.ico": "icon.svg"}.items():
        app.add_route(path, _page(file), include_in_schema=False)
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


async def watch(models: Models, metrics: Metrics, trail: Trail, interval_s: float, *, also: Sequence[Callable[[], None]] = ()) -> None:
    """Look for new versions for ever, and put them in force; `also` is done at every look and must be quick."""
    while True:
        await asyncio.sleep(interval_s)
        for look in also:
            look()
        if trail.due():
            await run_in_threadpool(trail.flush)
        for served in models.all():
            try:
                if await run_in_threadpool(models.pending, served.name):
                    refresh = partial(models.refresh, served.name)
                    metrics.reloaded(await run_in_threadpool(trail.refreshed, "the service itself", served, refresh))
            except (OSError, StreamingError) as unreadable:  # the next look may go better; the version in force answers on
                log.warning("model=%s cannot look for a new version: %s", served.name, secrets.redact(str(unreadable)))


def _page(file: str):  # type: ignore[no-untyped-def]
    async def page(request: Request) -> Response:
        return FileResponse(PAGE / file)

    return page


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return refusal.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return reply({"error": str(error.detail).lower()}, status=error.status_code, headers=error.headers)


async def _broken(request: Request, error: Exception) -> Response:
    return reply({"error": "something went wrong here; the service's log says what"}, status=500)
