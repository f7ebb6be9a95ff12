"""The routes that say how things are: of this process, of its store, and of the job that it stands beside."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from streaming import secrets
from streaming.api import openapi
from streaming.api.gate import caller
from streaming.api.metrics import Metrics
from streaming.api.replies import reply
from streaming.api.routes_stored import BoundedLookup
from streaming.api.served import Models
from streaming.api.tokens import Tokens
from streaming.errors import StreamingError

log: Final = logging.getLogger(__name__)

#: How long the store's last answer counts, so that probes cannot wear it out.
_STORE_S: Final = 2.0
#: A key that nobody has: what counts is that the store answers.
_PROBE_KEY: Final = "readiness probe"
#: What is told of a job that this service knows nothing of.
_NO_JOB: Final = {"job": {"answers": False, "words": "this service knows of no job"}, "windows": {"words": "", "list": [], "alerts": []}}


def router(
    models: Models, store: BoundedLookup | None, metrics: Metrics, tokens: Tokens, *, report: Callable[[], dict[str, Any]] | None
) -> APIRouter:
    """The routes. `report` tells of the job and the monitor; None: nothing is known of them."""
    routes = APIRouter()
    answers, recent = _Store(store), _Recent(report or (lambda: _NO_JOB))

    @routes.get("/healthz", **openapi.HEALTH)
    async def healthz() -> Response:
        """200 while the process answers."""
        return reply({"healthy": True})

    @routes.get("/readyz", **openapi.READY)
    async def readyz(request: Request) -> Response:
        """200 while the models are loaded and the store answers. Names and versions are for callers who may read them."""
        words = await answers.words()
        ready: dict[str, object] = {"ready": words in {"ok", "none"}, "store": words}
        if not tokens or caller(request.scope) is not None:
            ready["models"] = {served.name: served.version for served in models.all()}
        return reply(ready, status=200 if ready["ready"] else 503)

    @routes.get("/metrics", response_model=None, tags=["Health"], response_class=Response)
    async def metrics_() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.text(models.all()), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/v1/health", **openapi.JOB_HEALTH)
    async def job_health() -> Response:
        """The lanes and learners of the job, and the newest windows of the monitor."""
        return reply(await recent.content())

    return routes


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
