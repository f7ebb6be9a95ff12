"""Labels: how many a second the LEARN lane takes from a backlog, and how soon a label is in force in what is served.

    python -m benchmarks labels

Backlog: events are scored first, then the lane alone meets all their labels at once; the rate is that of the labels
between the first and the last state it wrote. In force: all lanes run; for each label of a version that is still kept, from
the broker's time of the label to the broker's time of the first prediction that names this version or a later one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.results import Part
from benchmarks.watch import Watch
from streaming import config as cfg
from streaming.demo import churn
from streaming.learning import versions
from streaming.learning.state_log import Snapshot

OURS = "ours"
MODES = ("microbatch", "realtime")
#: The least that real-time mode allows.
_TRIGGER = {"realtime": "5 seconds", "microbatch": "0 seconds"}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    #: Of the backlog.
    labels: int
    #: Events and labels per second while all lanes run, and for how long.
    rate: int
    seconds: float


def snapshots(path: Path) -> list[Snapshot]:
    """The states of the learner that are kept, oldest first."""
    learning = versions.learner(cfg.load(path), "churn-online", lambda: NotImplemented)
    return [learning.log.get(batch) for batch in learning.log.batches()]


def measure(home: Path, plan: Plan, part: Part, watch: Watch) -> None:
    """The backlog, then both modes."""
    watch.say(f"labels · backlog of {plan.labels:,}")
    backlog(home, plan, part)
    for mode in MODES:
        watch.say(f"labels · in force, {mode}")
        in_force(home, plan, mode, part)


def fill(bench: harness.Bench, path: Path, count: int) -> None:
    """Events, scored; then their labels, all at once."""
    sink = harness.Sink({**harness.client(bench.servers), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    labels = []
    for planned in islice(churn.stream(8, start=datetime.now(UTC)), count):
        now = planned.at(datetime.now(UTC))
        key = str(now.event["customer_id"]).encode()
        sink.send(harness.EVENTS, key=key, value=json.dumps(now.event).encode())
        labels.append((key, json.dumps(now.label).encode()))
    sink.flush()
    reader = harness.consumer(bench.servers)
    with bench.job(path, "score") as job:
        job.wait_for(lambda: harness.count(reader, harness.SHADOW) >= count)
    for key, value in labels:
        sink.send(harness.LABELS, key=key, value=value)
    sink.flush()


def backlog(home: Path, plan: Plan, part: Part) -> None:
    """Labels per second of the lane alone."""
    with harness.bench(home) as bench:
        path = bench.configure(mode="microbatch", trigger="0 seconds", learn=True)
        fill(bench, path, plan.labels)
        with bench.job(path, "learn") as job:
            job.wait_for(lambda: sum(s.meta.learned for s in snapshots(path)) >= plan.labels)
        learned = [s.meta for s in snapshots(path) if s.meta.learned]
    times = [datetime.fromisoformat(meta.at).timestamp() for meta in learned]
    if len(times) < 2:
        part.notes.append("labels, backlog: learned in one batch; a rate needs two: use more labels")
        return
    rates = [meta.learned / (at - before) for meta, before, at in zip(learned[1:], times, times[1:], strict=False)]
    setting = f"backlog of {plan.labels:,}"
    part.add(OURS, setting, "labels/s after the first batch", "", [sum(meta.learned for meta in learned[1:]) / (times[-1] - times[0])])
    part.add(OURS, setting, "labels/s of a batch", "", rates)


def in_force(home: Path, plan: Plan, mode: str, part: Part) -> None:
    """Seconds from a label to the first prediction made with it."""
    with harness.bench(home) as bench:
        path = bench.configure(mode=mode, trigger=_TRIGGER[mode], learn=True)
        with bench.job(path, *harness.lanes(learn=True)) as job:
            flow = harness.Traffic(bench.servers)
            flow.run(rate=plan.rate, seconds=20)
            job.wait_for(flow.answered)
            since_ms = datetime.now(UTC).timestamp() * 1000
            flow.run(rate=plan.rate, seconds=plan.seconds)
            job.wait_for(flow.answered)
        labelled = {(r.partition(), r.offset()): r.timestamp()[1] for r in harness.records(bench.servers, harness.LABELS)}
        served: dict[int, int] = {}
        for record in harness.records(bench.servers, harness.SHADOW):
            version = json.loads(record.value()).get("model_version")
            if version is not None and version.isdigit():
                served[int(version)] = min(served.get(int(version), 1 << 62), record.timestamp()[1])
        waits = []
        for snapshot in snapshots(path):
            if not snapshot.meta.learned:
                continue
            first = min((at for version, at in served.items() if version >= snapshot.meta.batch), default=None)
            for _, _, partition, offset in snapshot.extra["refs"].tolist():
                stamp = labelled[partition, offset]
                if first is not None and stamp >= since_ms:
                    waits.append((first - stamp) / 1000.0)
    setting = f"in force, {mode}, {plan.rate} labels/s, trigger {_TRIGGER[mode]}"
    for measure, percentile in (("p50", 50.0), ("p99", 99.0), ("max", 100.0)):
        part.add(OURS, setting, measure, "s", [float(np.percentile(waits, percentile))])
