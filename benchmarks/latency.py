"""From the producer's clock to the broker's: how long an event waits for its prediction, in real-time mode and micro-batches.

    python -m benchmarks latency [--rate 1000] [--seconds 60] [--modes realtime microbatch] [--trigger "1 minute"] [--learn]

An event carries the time at which it was handed to the producer; its prediction carries the time at which the broker
appended it. Nothing is left out: real-time mode pauses at each boundary (once per --trigger), and those events count.
With --learn all three lanes run, and each event's label is sent about a second after it.
"""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import UTC, datetime

import numpy as np

from benchmarks import harness

#: No pause between micro-batches: the least latency they can have.
_MICROBATCH_TRIGGER = "0 seconds"


def measure(given: Namespace, mode: str) -> np.ndarray:
    """The latency of every event after the warm-up, in milliseconds."""
    with harness.bench(given.home) as bench:
        path = bench.configure(mode=mode, trigger=given.trigger if mode == "realtime" else _MICROBATCH_TRIGGER, learn=given.learn)
        with bench.job(path, *harness.lanes(learn=given.learn)) as job:
            flow = harness.Traffic(bench.servers)
            flow.run(rate=given.rate, seconds=given.warm_up)
            job.wait_for(flow.answered)
            since = datetime.now(UTC)
            flow.run(rate=given.rate, seconds=given.seconds)
            job.wait_for(flow.answered)
        found = []
        for record in harness.records(bench.servers, harness.PREDICTIONS):
            when = datetime.fromisoformat(json.loads(record.value())["event_time"])
            if when >= since:
                found.append(record.timestamp()[1] - when.timestamp() * 1000.0)
    return np.array(found)


def main() -> None:
    """Measure each mode and print one line for it."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=1000, help="events per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=20.0, help="seconds of traffic before the clock starts")
    parser.add_argument("--modes", nargs="+", choices=["realtime", "microbatch"], default=["realtime", "microbatch"])
    parser.add_argument("--trigger", default="1 minute", help="of real-time mode: at least 5 seconds")
    parser.add_argument("--learn", action="store_true", help="run the lane LEARN too, with a label for each event")
    given = parser.parse_args()
    harness.load("start")
    for mode in given.modes:
        ms = measure(given, mode)
        trigger = given.trigger if mode == "realtime" else _MICROBATCH_TRIGGER
        p50, p99, most = np.percentile(ms, [50, 99, 100])
        print(
            f"{mode:<11}lanes={','.join(harness.lanes(learn=given.learn))} trigger={trigger!r} rate={given.rate}/s "
            f"predictions={len(ms)} p50={p50:.0f} ms p99={p99:.0f} ms max={most:.0f} ms (boundaries included)",
            flush=True,
        )
    harness.load("end")


if __name__ == "__main__":
    main()
