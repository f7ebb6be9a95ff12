"""The route of what is stored: an entity's predictions, and the event behind the newest of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from streaming import secrets
from streaming.api import dataplane, openapi
from streaming.api.replies import Refusal, reply
from streaming.api.served import Models, Served
from streaming.errors import StoreUnavailable, StreamingError


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


def router(models: Models, store: BoundedLookup | None, *, no_store: str, events: EventLookup | None) -> APIRouter:
    """The route. `no_store` says why there is no store when `store` is None; without `events` no event is read again."""
    routes = APIRouter()

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
        body: dict[str, object] = {"key": key, "predictions": [plain(row) for row in rows]}
        if fields_of is not None:
            body["event"] = await run_in_threadpool(event, events, dataplane.model(models, fields_of), rows)
        return reply(body)

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
