"""Throughput: the same backlog of events drained by the score lane and by a plain Python consumer with scikit-learn, in one run.

    python -m benchmarks drain [--events 500000] [--consumers 1]

One after the other, on the same broker. Events per second are those between the first and the last prediction by the
broker's clock, so neither side's start counts; the second half alone shows the JVM once it is warm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks import harness
from streaming.demo import churn

_PLAIN = "plain.predictions"
#: Different events; a longer backlog repeats them. Making a JSON text costs more than anything that is measured here.
_DIFFERENT = 50_000


@dataclass(frozen=True)
class Drained:
    """What one side wrote: predictions by event, and events per second over all and over the second half."""

    answers: dict[str, float]
    per_s: float
    warm_per_s: float


def fill(servers: str, events: int) -> None:
    """Put the backlog on the events topic."""
    sink = harness.Sink({**harness.client(servers), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    made = [
        (str(event["customer_id"]).encode(), json.dumps(event).encode())
        for event in islice(churn.events(8, datetime.now(UTC)), min(events, _DIFFERENT))
    ]
    for key, value in islice(cycle(made), events):
        sink.send(harness.EVENTS, key=key, value=value)
    sink.flush()


def drained(servers: str, topic: str) -> Drained:
    """Read what was written, and how fast."""
    answers, stamps = {}, []
    for record in harness.records(servers, topic):
        found = json.loads(record.value())
        answers[found["event_id"]] = found["prediction"]
        stamps.append(record.timestamp()[1])
    ms = np.sort(np.array(stamps, dtype=np.float64))
    half = len(ms) // 2
    # The broker counts whole milliseconds: a tiny run may begin and end in the same one.
    return Drained(answers, 1000.0 * len(ms) / max(ms[-1] - ms[0], 1.0), 1000.0 * (len(ms) - half) / max(ms[-1] - ms[half], 1.0))


def by_spark(bench: harness.Bench, path: Path, events: int) -> Drained:
    """The score lane alone, in micro-batches without a pause."""
    reader = harness.consumer(bench.servers)
    with bench.job(path, "score") as job:
        job.wait_for(lambda: harness.count(reader, harness.PREDICTIONS) >= events)
    return drained(bench.servers, harness.PREDICTIONS)


def by_plain(bench: harness.Bench, consumers: int) -> Drained:
    """So many processes, each with its share of the partitions."""
    harness.create_topics(bench.servers, _PLAIN)
    command = [sys.executable, "-m", "benchmarks.plain", bench.servers, _PLAIN, str(bench.home / "customers.parquet")]
    shares = [[str(p) for p in range(i, harness.PARTITIONS, consumers)] for i in range(consumers)]
    # One thread for NumPy: the matrices are small, and the processes would only be in each other's way.
    threads = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen([*command, *share], env=threads) for share in shares]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(f"a plain consumer failed: exit codes {codes}")
    return drained(bench.servers, _PLAIN)


def main() -> None:
    """Drain twice and print both rates and their ratio."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--consumers", type=int, default=1, choices=range(1, harness.PARTITIONS + 1), help="plain Python processes")
    given = parser.parse_args()
    harness.load("start")
    with harness.bench(given.home) as bench:
        path = bench.configure(mode="microbatch", trigger="0 seconds")
        fill(bench.servers, given.events)
        spark = by_spark(bench, path, given.events)
        plain = by_plain(bench, given.consumers)
    same = np.mean([plain.answers.get(event_id) == prediction for event_id, prediction in spark.answers.items()])
    print(
        f"events={given.events} answered: score lane {len(spark.answers)}, plain consumer {len(plain.answers)}; same prediction {same:.2%}"
    )
    print(f"score lane, micro-batch        {spark.per_s:>10,.0f} events/s  (second half {spark.warm_per_s:,.0f})")
    print(f"plain consumer, processes: {given.consumers}   {plain.per_s:>10,.0f} events/s  (second half {plain.warm_per_s:,.0f})")
    print(
        f"ratio                          {spark.per_s / plain.per_s:>10.2f}           (second half {spark.warm_per_s / plain.warm_per_s:.2f})"
    )
    harness.load("end")


if __name__ == "__main__":
    main()
