"""The demo's producer: customer events at a steady rate on a real topic, their labels seconds later, a few events broken on purpose."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from kafka import KafkaProducer

from streaming.demo.churn import Occurrence

#: One event in this many is broken, in one of the ways below.
BROKEN_EVERY: Final = 251

_BROKEN: Final = (
    b'{"customer_id": "C-',
    b"\xff\xfe not text",
    None,
    b'{"event_time": "2026-01-01T00:00:00Z"}',
    b'{"customer_id": "C-1", "event_time": "soon"}',
)


@dataclass
class Sent:
    """What the producer has sent so far; read by other threads."""

    total: int = 0
    broken: int = 0
    labels: int = 0
    customers: set[str] = field(default_factory=set)
    #: (customer, event_time) -> (label, the second of the plan in which it was sent)
    truth: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    #: When the second half begins, in which everything is different.
    drifted_at: datetime | None = None


@dataclass(frozen=True)
class Topics:
    """Where events and labels go."""

    events: str
    labels: str


def produce(
    producer: KafkaProducer, topics: Topics, stream: Iterator[Occurrence], *, rate: int, seconds: float, sent: Sent, stop: threading.Event
) -> None:
    """Send `rate` events a second for so many seconds, evenly, and each label when it is due; returns when the broker has them all."""
    began = time.monotonic()
    late: list[tuple[float, int, bytes, bytes]] = []
    for number in range(int(rate * seconds)):
        if stop.is_set():
            break
        ahead = began + number / rate - time.monotonic()
        if ahead > 0.002:
            time.sleep(ahead)
        _labels(producer, topics, late, sent, until=time.monotonic())
        _event(producer, topics, number, next(stream), late, sent, planned_s=number / rate)
    while late and not stop.is_set():
        _labels(producer, topics, late, sent, until=time.monotonic())
        time.sleep(0.01)
    producer.flush()


def _event(
    producer: KafkaProducer,
    topics: Topics,
    number: int,
    planned: Occurrence,
    late: list[tuple[float, int, bytes, bytes]],
    sent: Sent,
    *,
    planned_s: float,
) -> None:
    now = planned.at(datetime.now(UTC))
    customer = str(now.event["customer_id"])
    sent.total += 1
    if number % BROKEN_EVERY == BROKEN_EVERY - 1:
        sent.broken += 1
        producer.send(topics.events, key=customer.encode(), value=_BROKEN[number // BROKEN_EVERY % len(_BROKEN)])
        return
    producer.send(topics.events, key=customer.encode(), value=json.dumps(now.event).encode())
    sent.customers.add(customer)
    sent.truth[customer, str(now.event["event_time"])] = (int(now.label["label"]), planned_s)
    heapq.heappush(late, (time.monotonic() + now.delay_s, number, customer.encode(), json.dumps(now.label).encode()))


def _labels(producer: KafkaProducer, topics: Topics, late: list[tuple[float, int, bytes, bytes]], sent: Sent, *, until: float) -> None:
    while late and late[0][0] <= until:
        _, _, key, value = heapq.heappop(late)
        producer.send(topics.labels, key=key, value=value)
        sent.labels += 1
