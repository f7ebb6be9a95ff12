"""A job that is watched: its configuration, a table like its stream, and a world that can change."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd
from kafka import KafkaProducer

from tests.support import events

if TYPE_CHECKING:
    from streaming.embedded.broker import Broker

SECRET = "a-webhook-secret"
PER_S = 200
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Traffic:
    """Events and their labels at a steady rate, until told to stop. `moved`: more minutes than ever, and every label is another."""

    servers: str
    events: str
    labels: str
    moved: bool = False
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self.servers, linger_ms=5)
        began = time.monotonic()
        try:
            while not self.stop.wait(max(0.0, began + self.sent / PER_S - time.monotonic())):
                self._send(producer, self.sent)
                self.sent += 1
            producer.flush()
        finally:
            producer.close()

    def _send(self, producer: KafkaProducer, i: int) -> None:
        if i % 97 == 96:
            producer.send(self.events, key=b"broken", value=b"{not json")
            return
        key, value = events.good(i)
        event = json.loads(value)
        event["minutes"] += 60.0 * self.moved
        producer.send(self.events, key=key, value=json.dumps(event).encode(), headers=[("traceparent", TRACE.encode())])
        producer.send(self.labels, **dict(zip(("key", "value"), events.label(i, float((i % 10 == 0) != self.moved)), strict=True)))


def settings(broker: Broker, model: Path, folder: Path, *, schema: str, hook: str) -> dict[str, Any]:
    """A config as its owner would write it."""
    mark = uuid4().hex[:8]
    rules = [
        {"on": "data_drift", "after": 2, "clear_after": 2},
        {"on": "prediction_drift"},
        {"on": "quality", "severity": "critical", "do": ["notify", "freeze_learner", "retrain"]},
        {"on": "concept_drift", "severity": "critical"},
    ]
    alerts = {
        "topic": f"alerts-{mark}",
        "webhook": {"url": f"{hook}/in?token=sk-live", "secret": SECRET},
        "rules": rules,
        "silence": [{"from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "on": ["prediction_drift"]}],
    }
    return {
        "name": f"watched-{mark}",
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "events": {"topic": f"events-{mark}", "schema": schema, "key": "id", "time": "at"},
        "model": {"name": "churn", "version": "3", "uri": str(model)},
        "score": {"mode": "microbatch"},
        "predictions": {"topic": f"predictions-{mark}", "rejected_topic": f"rejected-{mark}", "shadow_topic": f"shadow-{mark}"},
        "labels": {"topic": f"labels-{mark}", "key": "id", "time": "at", "label": "label", "max_delay": "10 minutes"},
        "learners": [{"name": "online", "algorithm": "logistic_regression", "window": 200, "warm_start": "model"}],
        "learn": {"trigger": "500 ms"},
        "store": {"kind": "sqlite", "path": str(folder / "predictions.db")},
        "state": str(folder / "state"),
        "job": {"port": 0},
        "monitor": {
            "window": "2 seconds", "trigger": "300 ms", "starting": "earliest", "slices": ["plan"], "topic": f"windows-{mark}", "alerts": alerts,
        },
    }  # fmt: skip


def table(folder: Path, n: int = 2000) -> str:
    """Rows like those that the stream has, with the truth about each."""
    rows = [json.loads(events.good(i)[1]) | {"churned": float(i % 10 == 0)} for i in range(n)]
    pd.DataFrame(rows).to_parquet(folder / "customers.parquet")
    return str(folder / "customers.parquet")
