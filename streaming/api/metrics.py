"""What Prometheus scrapes: requests, their times, rows, and which version of each model is in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streaming.api.served import Refreshed, Served

#: From a fraction of a millisecond, which one row takes, to what is plainly broken.
_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        make = {"registry": self.registry, "namespace": "streaming_api"}
        self._requests = Counter("requests", "Answered requests by route and status.", ["route", "status"], **make)  # type: ignore[arg-type]
        self._seconds = Histogram("request_seconds", "From the request's head to its answer's end.", ["route"], buckets=_BUCKETS, **make)  # type: ignore[arg-type]
        self._rows = Counter("rows", "Rows by model and outcome: scored or error.", ["model", "outcome"], **make)  # type: ignore[arg-type]
        self._info = Gauge("model_info", "1 for the version in force.", ["model", "version"], **make)  # type: ignore[arg-type]
        self._loaded = Gauge("model_loaded_timestamp_seconds", "When the version in force was loaded.", ["model"], **make)  # type: ignore[arg-type]
        self._reloads = Counter("model_reloads", "Looks at a new version: swapped, unchanged or refused.", ["model", "outcome"], **make)  # type: ignore[arg-type]

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        children = self._children.get((route, status))
        if children is None:  # finding a child by its labels costs more than counting
            children = self._children[route, status] = (self._requests.labels(route, str(status)), self._seconds.labels(route))
        children[0].inc()
        children[1].observe(seconds)

    def rows(self, *, model: str, scored: int, errors: int) -> None:
        """Count the rows of one request."""
        if scored:
            self._rows.labels(model, "scored").inc(scored)
        if errors:
            self._rows.labels(model, "error").inc(errors)

    def reloaded(self, outcome: Refreshed) -> None:
        """Count one look at a new version."""
        word = "refused" if outcome.error is not None else "swapped" if outcome.changed else "unchanged"
        self._reloads.labels(outcome.served.name, word).inc()

    def text(self, served: Iterable[Served]) -> bytes:
        """Everything in Prometheus' text format; the versions are those of `served`."""
        self._info.clear()
        for each in served:
            self._info.labels(each.name, each.version).set(1)
            self._loaded.labels(each.name).set(each.loaded_at.timestamp())
        return generate_latest(self.registry)
