"""The application: every route, behind one gate, over models and a store that are handed in."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from streaming import __version__, secrets
from streaming.api import openapi, routes, routes_open_inference
from streaming.api.fast_path import FastPath
from streaming.api.gate import Gate, caller
from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal, reply
from streaming.api.routes import BoundedLookup, EventLookup, Lookup
from streaming.api.served import Models
from streaming.api.tokens import Tokens
from streaming.api.trail import Trail
from streaming.config.sections import Api
from streaming.config.values import seconds
from streaming.errors import StreamingError
from streaming.runtime.audit import AuditLog

log: Final = logging.getLogger(__name__)

PAGE: Final = Path(__file__).parent / "page"
#: How long the store's last answer counts, so that probes cannot wear it out.
_STORE_S: Final = 2.0
#: A key that nobody has: what counts is that the store answers.
_PROBE_KEY: Final = "readiness probe"


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
    app.include_router(routes.router(models, bounded, settings, metrics, predict=predict, trail=trail, no_store=no_store, events=events))
    app.include_router(routes_open_inference.router(models, settings, metrics, trail))
    answers = _Store(bounded)

    @app.get("/healthz", **openapi.HEALTH)
    async def healthz() -> Response:
        """200 while the process answers."""
        return reply({"healthy": True})

    @app.get("/readyz", **openapi.READY)
    async def readyz(request: Request) -> Response:
        """200 while the models are loaded and the store answers. Names and versions are for callers who may read them."""
        words = await answers.words()
        ready: dict[str, object] = {"ready": words in {"ok", "none"}, "store": words}
        if not tokens or caller(request.scope) is not None:
            ready["models"] = {served.name: served.version for served in models.all()}
        return reply(ready, status=200 if ready["ready"] else 503)

    @app.get("/metrics", response_model=None, tags=["Health"], response_class=Response)
    async def metrics_() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.text(models.all()), media_type=CONTENT_TYPE_LATEST)

    report = _Recent(
        health or (lambda: {"job": {"answers": False, "words": "this service knows of no job"}, "windows": {"words": "", "list": []}})
    )

    @app.get("/v1/health", **openapi.JOB_HEALTH)
    async def job_health() -> Response:
        """The lanes and learners of the job, and the newest windows of the monitor."""
        return reply(await report.content())

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


class _Store:
    """What the store last answered to a probe."""

    def __init__(self, store: BoundedLookup | None) -> None:
        self._store, self._words, self._at = store, "none", -_STORE_S

    async def words(self) -> str:
        """ "ok", "none" when there is no store to ask, or that it does not answer; why stands in the log."""
        if self._store is not None and time.monotonic() - self._at >= _STORE_S:
            self._at = time.monotonic()
            try:
                await self._store.get(_PROBE_KEY)
                self._words = "ok"
            except StreamingError as refused:
                log.warning("the store does not answer: %s", secrets.redact(str(refused)))
                self._words = "does not answer"
        return self._words


class _Recent:
    """A report that is made at most every other second, however many ask."""

    def __init__(self, make: Callable[[], dict[str, Any]]) -> None:
        self._make, self._made, self._at, self._lock = make, dict[str, Any](), -_STORE_S, asyncio.Lock()

    async def content(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._at >= _STORE_S:
                self._made = await run_in_threadpool(self._make)
                self._at = time.monotonic()
        return self._made


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
