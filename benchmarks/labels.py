"""Labels: how many a second the LEARN lane takes from a backlog, and how soon a label is in force in what is served.

    python -m benchmarks labels [--labels 200000] [--rate 200] [--seconds 60] [--modes microbatch realtime]

Backlog: events are scored first, then the lane alone meets all their labels at once; the rate is that of the labels
between the first and the last state it wrote. In force: all lanes run; for each label of a version that is still kept, from
the broker's time of the label to the broker's time of the first prediction that names this version or a later one.
"""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks import harness
from streaming import config as cfg
from streaming.demo import churn
from streaming.learning import versions
from streaming.learning.state_log import Snapshot

#: The least that real-time mode allows.
_TRIGGER = {"realtime": "5 seconds", "microbatch": "0 seconds"}


def snapshots(path: Path) -> list[Snapshot]:
    """The states of the learner that are kept, oldest first."""
    one = versions.learner(cfg.load(path), "churn-online", lambda: NotImplemented)
    return [one.log.get(batch) for batch in one.log.batches()]


def backlog(given: Namespace) -> None:
    """Labels per second of the lane alone."""
    with harness.bench(given.home) as bench:
        path = bench.configure(mode="microbatch", trigger="0 seconds", learn=True)
        sink = harness.Sink({**harness.client(bench.servers), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
        labels = []
        for planned in islice(churn.stream(8, start=datetime.now(UTC)), given.labels):
            now = planned.at(datetime.now(UTC))
            key = str(now.event["customer_id"]).encode()
            sink.send(harness.EVENTS, key=key, value=json.dumps(now.event).encode())
            labels.append((key, json.dumps(now.label).encode()))
        sink.flush()
        reader = harness.consumer(bench.servers)
        with bench.job(path, "score") as job:
            job.wait_for(lambda: harness.count(reader, harness.SHADOW) >= given.labels)
        for key, value in labels:
            sink.send(harness.LABELS, key=key, value=value)
        sink.flush()
        with bench.job(path, "learn") as job:
            job.wait_for(lambda: sum(s.meta.learned for s in snapshots(path)) >= given.labels)
        learned = [s.meta for s in snapshots(path) if s.meta.learned]
    times = [datetime.fromisoformat(meta.at).timestamp() for meta in learned]
    after = sum(meta.learned for meta in learned[1:])
    rates = [meta.learned / (at - before) for meta, before, at in zip(learned[1:], times, times[1:], strict=False)]
    print(
        f"backlog: {given.labels} labels in {len(learned)} batches; after the first batch {after / (times[-1] - times[0]):,.0f} labels/s, "
        f"best batch {max(rates):,.0f} labels/s",
        flush=True,
    )


def in_force(given: Namespace, mode: str) -> None:
    """Seconds from a label to the first prediction made with it."""
    with harness.bench(given.home) as bench:
        path = bench.configure(mode=mode, trigger=_TRIGGER[mode], learn=True)
        with bench.job(path, *harness.lanes(learn=True)) as job:
            flow = harness.Traffic(bench.servers)
            flow.run(rate=given.rate, seconds=20)
            job.wait_for(flow.answered)
            since_ms = datetime.now(UTC).timestamp() * 1000
            flow.run(rate=given.rate, seconds=given.seconds)
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
    p50, p99, most = np.percentile(waits, [50, 99, 100])
    print(
        f"in force: {mode:<11}trigger={_TRIGGER[mode]!r} labels={len(waits)} p50={p50:.1f} s p99={p99:.1f} s max={most:.1f} s", flush=True
    )


def main() -> None:
    """Measure and print."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=200_000, help="of the backlog; 0: leave it out")
    parser.add_argument("--rate", type=int, default=200, help="events and labels per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--modes", nargs="*", choices=["realtime", "microbatch"], default=["microbatch", "realtime"])
    given = parser.parse_args()
    harness.load("start")
    if given.labels:
        backlog(given)
    for mode in given.modes:
        in_force(given, mode)
    harness.load("end")


if __name__ == "__main__":
    main()
