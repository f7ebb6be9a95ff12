"""Events in an open loop: each is due at its own moment, whether or not the last one was answered, and carries that moment.

What a system makes of them is read back afterwards: every event must have its one answer, and the answer must be the
pipeline's. The clocks are the due time that the event carries and the broker's when it appends the answer, to the millisecond.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice

import numpy as np
from confluent_kafka import Message

from benchmarks import harness
from benchmarks.prepare import SEED
from benchmarks.statistics import Floats, latencies
from streaming.demo import churn

#: Different events; they come again and again, with new times. Making a JSON text costs more than anything that is measured here.
DIFFERENT = 20_000
_LABEL_AFTER_S = 1.0
#: What double arithmetic in another order may change, and single precision may not.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Event:
    """An event but for its time, and the label that belongs to it."""

    customer: str
    key: bytes
    before: bytes
    after: bytes
    label: int

    def at(self, moment: bytes) -> bytes:
        """The event's JSON at this time."""
        return self.before + moment + self.after


@lru_cache
def events() -> list[Event]:
    """The different events, the same ones in every run."""
    made = []
    for planned in islice(churn.stream(SEED, start=datetime(2026, 1, 1, tzinfo=UTC)), DIFFERENT):
        text = json.dumps({**planned.event, "event_time": "WHEN"}).encode()
        before, after = text.split(b"WHEN")
        customer = str(planned.event["customer_id"])
        made.append(Event(customer, customer.encode(), before, after, int(planned.label["label"])))
    return made


def moment(at_s: float) -> bytes:
    """Seconds since 1970 as an event writes them."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").encode()


@dataclass(frozen=True)
class Sent:
    """What one stretch of traffic sent: due times from `since` on and before `until`, seconds since 1970."""

    since: float
    until: float
    events: int
    #: How late the generator itself was, in ms: its own part of every latency.
    late_ms_p99: float


@dataclass
class Generator:
    """Sends events, and with `labels` the label of each a second after it."""

    servers: str
    topic: str
    labels: str | None = None
    #: Other events than those of the demo.
    known: list[Event] | None = None
    total: int = 0
    _pending: deque[tuple[float, bytes, bytes]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        settings = {**harness.client(self.servers), "linger.ms": 0, "queue.buffering.max.messages": 1_000_000}
        self._sink = harness.Sink(settings)

    def run(self, *, rate: int, seconds: float) -> Sent:
        """Send for so long; returns when the broker has every event and label."""
        known, number, late = self.known or events(), int(rate * seconds), []
        began, wall = time.perf_counter(), time.time()
        for i in range(number):
            due = i / rate
            while (now := time.perf_counter() - began) < due:
                self._sink.poll(0)
                time.sleep(min(max(due - now, 0.0), 0.001))
            late.append(now - due)
            self._send(known[(self.total + i) % len(known)], wall + due)
        self.total += number
        while self._pending:
            self._labels(until=time.time())
            time.sleep(0.01)
        self._sink.flush()
        return Sent(wall, wall + number / rate, number, float(np.percentile(late, 99.0)) * 1000.0)

    def _send(self, event: Event, due: float) -> None:
        when = moment(due)
        self._sink.send(self.topic, key=event.key, value=event.at(when))
        if self.labels is not None:
            text = b'{"customer_id": "%s", "event_time": "%s", "label": %d}' % (event.key, when, event.label)
            self._pending.append((due + _LABEL_AFTER_S, event.key, text))
            self._labels(until=due)

    def _labels(self, *, until: float) -> None:
        while self._pending and self._pending[0][0] <= until:
            _, key, text = self._pending.popleft()
            assert self.labels is not None
            self._sink.send(self.labels, key=key, value=text)


@dataclass(frozen=True)
class Answers:
    """The answers to one stretch of traffic."""

    #: Due times, ms since 1970, and what each event waited.
    due_ms: Floats
    waited_ms: Floats


def answers(topic_records: Iterable[Message], sent: Sent, expected: Mapping[str, float] | None) -> Answers:
    """What the system made of `sent`. AssertionError when an event has no answer or two, or one that is not the pipeline's.

    `expected`: customer -> probability; None for a system that hands on the bytes.
    """
    due, done, seen = [], [], set()
    for record in topic_records:
        said = json.loads(record.value())
        when = datetime.fromisoformat(said["event_time"]).timestamp()
        if not sent.since - 1e-6 <= when < sent.until - 1e-6:
            continue
        customer = said["key"] if expected is not None else said["customer_id"]
        if expected is not None:
            check(customer, said["probability"][1], expected)
        seen.add((customer, said["event_time"]))
        due.append(when * 1000.0)
        done.append(record.timestamp()[1])
    assert len(due) == sent.events == len(seen), f"sent {sent.events} events, got {len(due)} answers to {len(seen)} of them"
    order = np.argsort(due)
    at = np.array(due)[order]
    return Answers(at, latencies(at, np.array(done, dtype=np.float64)[order]))


def check(customer: str, got: float, expected: Mapping[str, float], tolerance: float = TOLERANCE) -> None:
    """AssertionError when the answer is not the pipeline's."""
    assert abs(got - expected[customer]) <= tolerance, f"{customer}: the pipeline gives {expected[customer]!r}, this system {got!r}"
