"""A span for each batch, and none where nobody asked."""

from __future__ import annotations

import builtins
import logging
from typing import Any

import pytest

from streaming.monitor import spans
from streaming.monitor.progress import Progress

BATCH = Progress(lane="score", batch=7, rows=100, in_per_s=1.0, out_per_s=1.0, lag_events=None, lag_s=None, rejected=2, ms=1_500)


def test_a_span_lasts_as_long_as_its_batch() -> None:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(memory))
    told = spans.Spans(provider)
    told.batch(BATCH, at=1_700_000_000.0)
    told.close()
    (span,) = memory.get_finished_spans()
    assert span.name == "score batch"
    assert span.end_time - span.start_time == 1_500_000_000
    assert dict(span.attributes) == {"lane": "score", "batch": 7, "rows": 100, "rejected": 2}


def test_a_collector_that_is_away_does_not_fill_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = logging.getLogger("opentelemetry")
    monkeypatch.setattr(theirs, "handlers", [])
    monkeypatch.setattr(theirs, "propagate", True)
    spans.quieted()
    spans.quieted()
    for n in range(50):
        logging.getLogger("opentelemetry.exporter").warning("Transient error %s, retrying in %.2fs", f"refused {n}", 0.5)
        logging.getLogger("opentelemetry.sdk.trace").error("lost %d spans", n)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "spans: Transient error refused 0, retrying in 0.50s",
        "spans: lost 0 spans",
    ]
    assert "not said again for 10 minutes" in caplog.text


def test_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in spans._SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert spans.of_environment("churn") is None


def test_asked_for_without_the_packages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    monkeypatch.setattr(builtins, "__import__", missing)
    assert spans.of_environment("churn") is None
    assert "streaming-scoring[otel]" in caplog.text
