"""What watching does to scoring: latency in real-time mode and CPU of the job, with the monitor lane and without it.

    python -m benchmarks watched [--columns 100] [--rate 1000] [--seconds 90] [--rounds 2] [--sample 1.0 0.05]

The real job as a process, on a broker of its own: events of so many columns and their labels in an open loop, the lanes score
alone and score with monitor in turn. A stretch holds three batches of the monitor at its default trigger.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from benchmarks import harness, load, monitor
from benchmarks.running import Running, running
from benchmarks.statistics import latencies, percentiles
from benchmarks.systems.base import ROOT, Place
from streaming.monitor.baseline import AnsweredRows, of_table
from streaming.runtime.session import start

DIFFERENT = 2_000
_START_S, _CATCH_UP_S, _WARM_UP_S = 300.0, 60.0, 30.0


@dataclass(frozen=True)
class Job:
    """The service with these lanes. `sample`: of the monitor."""

    columns: int
    lanes: tuple[str, ...]
    sample: float = 1.0
    answers: bool = True
    learns: bool = False
    realtime: bool = True

    @property
    def title(self) -> str:
        """What it is called in the table."""
        return "score alone" if "monitor" not in self.lanes else f"score and monitor, sample {self.sample:g}"

    def missing(self) -> None:
        """Never."""

    def environment(self) -> Mapping[str, str]:
        """This checkout."""
        return {"PYTHONPATH": str(ROOT)}

    def commands(self, place: Place) -> list[list[str]]:
        """`streaming serve` over a configuration written into the system's folder."""
        path = place.folder / "job.yaml"
        path.write_text(yaml.safe_dump(self.configuration(place)))
        (place.folder / "state" / "monitor").mkdir(parents=True)
        (place.folder / "state" / "monitor" / "baseline.json").write_bytes(baseline(self.columns))
        return [[sys.executable, "-m", "streaming", "-v", "serve", str(path), "--lanes", ",".join(self.lanes)]]

    def configuration(self, place: Place) -> dict[str, Any]:
        """That of the benchmark of CPU, on a real broker."""
        tree = monitor.tree(self.columns, self.sample, place.folder)
        topics = {"topic": place.out, "rejected_topic": f"{place.out}.rejected"}
        return tree | {
            "kafka": {"bootstrap_servers": place.servers},
            "events": tree["events"] | {"topic": place.events},
            "model": tree["model"] | {"uri": str(place.home / "model")},
            "predictions": topics,
            "labels": {"topic": place.labels, "key": "customer_id", "time": "event_time", "label": "label"},
            "score": {"mode": "realtime", "trigger": place.trigger},
            "job": {"port": 0},
        }


def baseline(columns: int) -> bytes:
    """Of events as :func:`events` makes them."""
    rng = np.random.default_rng(0)
    known = {f"x{i}": rng.random(5000) for i in range(columns - 1)} | {"plan": rng.choice(["a", "b", "c"], 5000)}
    p = rng.random(5000)
    answers = AnsweredRows("model", "probability", (p > 0.5).astype(float), p, (rng.random(5000) < p).astype(float))
    return of_table(pa.table(known), columns=list(known), slices=["plan"], source="made", answers=answers).to_bytes()


def events(columns: int) -> list[load.Event]:
    """The different events."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(DIFFERENT):
        values = {f"x{j}": float(x) for j, x in enumerate(rng.random(columns - 1))}
        text = json.dumps({"id": f"c{i}", "at": "WHEN", "plan": "abc"[i % 3], **values}).encode()
        before, after = text.split(b"WHEN")
        made.append(load.Event(f"c{i}", f"c{i}".encode(), before, after, i % 2))
    return made


def measure(bench: harness.Bench, system: Job, number: int, *, rate: int, seconds: float) -> tuple[dict[str, float], float]:
    """(latencies in ms, CPU µs an event) of one stretch, after a warm-up."""
    place = Place(bench.servers, f"in.{number}", f"out.{number}", bench.folder / f"job-{number}", bench.home, "30 seconds")
    harness.create_topics(bench.servers, *harness.topics_of(place))
    with running(system, place) as job:
        generator = load.Generator(bench.servers, place.events, place.labels, known=events(system.columns))
        _stretch(job, generator, place, rate=rate, seconds=_WARM_UP_S, patience_s=_START_S)
        before = job.cpu_s()
        waited = _stretch(job, generator, place, rate=rate, seconds=seconds, patience_s=_CATCH_UP_S)
        return percentiles(waited), (job.cpu_s() - before) / (rate * seconds) * 1e6


def _stretch(job: Running, generator: load.Generator, place: Place, *, rate: int, seconds: float, patience_s: float) -> Any:
    reader = harness.consumer(place.servers)
    before = harness.ends(reader, place.out)
    generator.run(rate=rate, seconds=seconds)
    job.wait_for(lambda: harness.count(reader, place.out) >= generator.total, within_s=patience_s, what="every event answered")
    waits = [
        (datetime.fromisoformat(json.loads(r.value() or b"")["event_time"]).timestamp() * 1000, r.timestamp()[1])
        for r in harness.records(place.servers, place.out, since=before)
    ]
    due, done = np.array(waits, dtype=np.float64).T
    return latencies(due, done)


def main() -> None:
    """Print a line for each stretch, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sample", type=float, nargs="+", default=[1.0, 0.05])
    options = parser.parse_args()
    systems = [Job(options.columns, ("score",)), *(Job(options.columns, ("score", "monitor"), s) for s in options.sample)]
    seen: dict[str, list[tuple[dict[str, float], float]]] = {system.title: [] for system in systems}
    with tempfile.TemporaryDirectory() as home:
        spark = start("model", master="local[2]", options={"spark.ui.enabled": "false"}, log=Path(home) / "spark.log")
        monitor.train(spark, Path(home), options.columns)
        spark.stop()
        with harness.bench(Path(home)) as bench:
            for number in range(options.rounds * len(systems)):
                system = systems[number % len(systems)]
                harness.load(system.title)
                seen[system.title].append(measure(bench, system, number, rate=options.rate, seconds=options.seconds))
                print(system.title, *seen[system.title][-1], flush=True)
    print("\n".join(table(seen)))


def table(seen: Mapping[str, list[tuple[dict[str, float], float]]]) -> list[str]:
    """Medians over the rounds, with those of scoring alone beside them."""
    lines = ["| lanes | p50 ms | p99 ms | of scoring alone | CPU µs an event | more than scoring alone |", "|---|---|---|---|---|---|"]
    alone = None
    for title, runs in seen.items():
        p50, p99 = (float(np.median([ms[name] for ms, _ in runs])) for name in ("p50", "p99"))
        cpu = float(np.median([cost for _, cost in runs]))
        alone = alone or (p99, cpu)
        lines.append(f"| {title} | {p50:.1f} | {p99:.1f} | {p99 / alone[0]:.2f} | {cpu:.0f} | {cpu / alone[1] - 1:+.0%} |")
    return lines


if __name__ == "__main__":
    main()
