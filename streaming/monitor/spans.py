"""A span for each batch of each lane, for whoever collects traces with OpenTelemetry: set up by its own environment variables.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set. A span has names and counts, no
event; the trace of a single event is told by the `traceparent` header, which travels from the event to its prediction.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

from streaming.monitor.progress import Progress

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

_SWITCHES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


#: A collector that is away is complained of this often, not with every attempt of every second.
_EVERY_S: Final = 600.0


class Spans:
    """Writes the spans of one job; close it so that the last ones are sent."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("streaming")

    def batch(self, progress: Progress, *, at: float) -> None:
        """A batch has ended at `at` (seconds since 1970)."""
        end_ns = int(at * 1e9)
        counts: dict[str, str | int] = {
            "lane": progress.lane,
            "batch": progress.batch,
            "rows": progress.rows,
            "rejected": progress.rejected,
        }
        if progress.lag_events is not None:
            counts["lag"] = progress.lag_events
        span = self._tracer.start_span(f"{progress.lane} batch", start_time=end_ns - progress.ms * 1_000_000, attributes=counts)
        span.end(end_time=end_ns)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def of_environment(job: str) -> Spans | None:
    """The spans of a job as OpenTelemetry's variables want them; None when they ask for none, or its packages are missing."""
    if not any(os.environ.get(name) for name in _SWITCHES) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        log.warning("OpenTelemetry is asked for (%s), but %s; pip install 'streaming-scoring[otel]'", _SWITCHES[0], missing)
        return None
    quieted()
    provider = TracerProvider(resource=Resource.create({"service.name": job}))
    # In a thread of its own: a collector that is away costs spans, never a batch.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


class _Seldom(logging.Handler):
    """Hands on what OpenTelemetry says, each kind of message once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        now, kind = time.monotonic(), str(record.msg)
        if now >= self._due.get(kind, 0.0):
            self._due[kind] = now + _EVERY_S
            log.log(record.levelno, "spans: %s (not said again for %.0f minutes)", record.getMessage(), _EVERY_S / 60)


def quieted() -> None:
    """From now on OpenTelemetry's own complaints are seldom. Asking twice changes nothing."""
    theirs = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Seldom) for handler in theirs.handlers):
        theirs.addHandler(_Seldom())
        theirs.propagate = False
