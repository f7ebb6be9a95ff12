"""The monitor lane in the real job, killed while it watches: no window is lost, none is counted twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from streaming.lanes import monitor
from streaming.monitor import windows
from streaming.monitor.baseline import AnsweredRows, Baseline, of_table
from streaming.monitor.statistics import ALL, FEATURES, SCORE, Statistics, of_rows
from streaming.runtime.files import LocalFolder
from tests.support import events, job

if TYPE_CHECKING:
    from streaming.embedded.broker import Broker
    from tests.support.inside import Inside

WINDOW_MS = 3000
SCHEMA = "id STRING, at STRING, plan STRING, minutes DOUBLE, calls INT"


def baseline(n: int = 2000) -> Baseline:
    """Of events as `tests.support.events.good` makes them."""
    made = [json.loads(events.good(i)[1]) for i in range(n)]
    table = pa.table({name: [e[name] for e in made] for name in ("plan", "minutes", "calls")})
    score = np.full(n, 0.3)
    return of_table(
        table,
        columns=["plan", "minutes", "calls"],
        source="test",
        answers=AnsweredRows("churn", "probability", score * 0, score, score * np.nan),
    )


def sums(state: LocalFolder) -> dict[int, Statistics]:
    """What is published, and what still goes on."""
    history, states = monitor.history(state), state.below("monitor").below("states")
    closed = {start: statistics for start in history.starts() if (statistics := history.newest_sums(start)) is not None}
    newest = [name for name in states.names() if name.endswith(".npz")][-1:]
    content = states.read(newest[0]) if newest else None
    going_on = windows.from_bytes(content).windows if content is not None else {}
    return closed | {start: window.statistics for start, window in going_on.items()}


def total(by_window: dict[int, Statistics], subject: str) -> float:
    vectors = [v for s in by_window.values() if (v := s.get(ALL, subject)) is not None]
    return sum(float(v[: (baseline_widths[subject])].sum()) for v in vectors)


BASE = baseline()
assert BASE.score is not None
baseline_widths = {FEATURES: BASE.layout.columns[0].bins + 1, f"{SCORE}churn": BASE.score.bins + 1}


def answers(topic: str, first: int, n: int) -> list[tuple[bytes | None, bytes | None]]:
    """An answer to each of the events at those offsets, the first ten of them twice."""
    made = []
    for i in [*range(first, first + n), *range(first, first + 10)]:
        at = (events.START).isoformat(timespec="microseconds")
        row = {"event_id": f"{topic}:0:{i}", "key": f"c{i}", "event_time": at, "model": "churn", "model_version": "3", "prediction": 0.0}
        made.append((b"k", json.dumps(row | {"probability": [0.7, 0.3]}).encode()))
    return made


def test_killed_while_it_watches_every_window_equals_one_pass(
    broker: Broker, topics: Callable[..., str], inside: Inside, tmp_path: Path
) -> None:
    tree: dict[str, Any] = {
        "name": "watched",
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "events": {"topic": topics(2), "schema": SCHEMA, "key": "id", "time": "at"},
        "model": {"name": "churn", "version": "3", "uri": "models/none"},  # the lane reads answers, it gives none
        "predictions": {"topic": topics(1), "rejected_topic": topics(1)},
        "store": {"kind": "sqlite", "path": str(tmp_path / "none.db")},
        "state": str(tmp_path / "state"),
        "monitor": {"window": f"{WINDOW_MS} ms", "least_rows": 50, "trigger": "100 ms", "starting": "earliest"},
    }
    state = LocalFolder(Path(tree["state"]))
    state.below("monitor").replace("baseline.json", BASE.to_bytes())
    config = job.write_config(tmp_path / "watched.yaml", tree)
    servers, topic = tree["kafka"]["bootstrap_servers"], tree["events"]["topic"]

    def load(part: int) -> None:
        job.send(servers, tree["predictions"]["topic"], answers(topic, 300 * part, 300))
        job.send(servers, topic, events.mixed(300), per_s=300)

    with job.running(config, lanes="monitor") as killed:
        load(0)
        killed.until(lambda: total(sums(state), FEATURES) > 100, "the monitor has begun to count")
        killed.kill()
    load(1)
    with inside(tree, lanes=("monitor",)) as running:
        running.until(lambda: total(sums(state), FEATURES) >= 594, "every event is counted")
        running.until(lambda: total(sums(state), f"{SCORE}churn") >= 600, "every answer is counted")
        running.stop()
    by_window = sums(state)
    assert total(by_window, FEATURES) == 594
    assert total(by_window, f"{SCORE}churn") == 600
    expected: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in job.read_all(servers, topic):
        if record.value is not None and record.value.endswith(b"}") and b'"minutes"' in record.value:
            expected[record.timestamp - record.timestamp % WINDOW_MS].append(json.loads(record.value))
    for start, rows in expected.items():
        table = pa.table({name: [row.get(name) for row in rows] for name in ("plan", "minutes", "calls")})
        np.testing.assert_array_equal(by_window[start].get(ALL, FEATURES), of_rows(table, BASE.layout).get(ALL, FEATURES))
    shown = subprocess.run([sys.executable, "-m", "streaming", "drift", str(config)], capture_output=True, text=True, check=True).stdout
    assert "newest window" in shown
    assert "basic" not in killed.text() + running.text()
