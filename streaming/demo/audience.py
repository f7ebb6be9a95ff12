"""The demo's consumer: reads what the job writes, counts it and takes the latency from the broker's own clock."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaConsumer

from streaming.records import rejected as refusals
from streaming.records.predictions import Place, parse_value

#: The newest latencies that the live display is made of.
_RECENT: Final = 5_000


@dataclass
class JobOutput:
    """What came out of the job so far; read by other threads."""

    event_ids: set[str] = field(default_factory=set)
    #: customer -> the newest prediction on the topic, by the rule of the store.
    newest: dict[str, dict[str, Any]] = field(default_factory=dict)
    rejected_ids: set[str] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    #: model -> (customer, event_time) -> probability of churn as served; None while the model knows nothing.
    served: dict[str, dict[tuple[str, str], float | None]] = field(default_factory=dict)
    #: model -> the versions it served with, in order.
    versions: dict[str, list[str]] = field(default_factory=dict)


def watch(consumer: KafkaConsumer, *, champion: str, rejected: str, seen: JobOutput, stop: threading.Event) -> None:
    """Read predictions of all models, and rejected records, until told to stop. `champion`: the topic consumers read."""
    while not stop.is_set():
        for batch in consumer.poll(timeout_ms=200, max_records=5_000).values():
            for record in batch:
                if record.topic == rejected:
                    _rejected(record, seen)
                else:
                    _prediction(record, seen, champion=record.topic == champion)


def _prediction(record: Any, seen: JobOutput, *, champion: bool) -> None:
    prediction = parse_value(record.value)
    when = datetime.fromisoformat(prediction["event_time"])
    probability = prediction["probability"]
    at = (prediction["key"], when.astimezone(UTC).isoformat(timespec="microseconds"))
    seen.served.setdefault(prediction["model"], {})[at] = None if probability is None else probability[1]
    versions = seen.versions.setdefault(prediction["model"], [])
    version = prediction["model_version"] or "none"
    if not versions or versions[-1] != version:
        versions.append(version)
    if not champion:
        return
    seen.event_ids.add(prediction["event_id"])
    # The event's time is the producer's clock when it sent; the record's is the broker's when it appended.
    latency = record.timestamp - when.timestamp() * 1000.0
    seen.latencies_ms.append(latency)
    seen.recent_ms.append(latency)
    before = seen.newest.get(prediction["key"])
    if before is None or _order(prediction) >= _order(before):
        seen.newest[prediction["key"]] = prediction


def _order(prediction: dict[str, Any]) -> tuple[str, int, int]:
    place = Place.parse(prediction["event_id"])
    return prediction["event_time"], place.partition, place.offset


def _rejected(record: Any, seen: JobOutput) -> None:
    refused = refusals.parse(record.headers)
    if refused is not None and refused.place.id not in seen.rejected_ids:
        seen.rejected_ids.add(refused.place.id)
        seen.reasons[refused.reason] += 1
