"""Whether a long-running job grows: its live heap and the memory of its processes over time, as MB per hour, all lanes under load.

    python -m benchmarks soak

Memory of the processes is read every 10 s. The heap is read after a full collection that is asked for once a minute,
because what lies on a heap between collections says nothing; not more often, because a collection also frees what Spark
only lets go when one comes. The slope is that of least squares on the last two thirds. The latency of all these minutes,
at the trigger that the service has by itself, stands beside it; full collections are in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field

import psutil

from benchmarks import harness, load, prepare
from benchmarks.results import Part
from benchmarks.running import Running, Stopped, running
from benchmarks.statistics import percentiles, slope, thinned
from benchmarks.systems.base import Place
from benchmarks.systems.ours import REALTIME_ALL
from benchmarks.watch import Watch
from streaming.lanes.score import DEFAULT_TRIGGER

_EVERY_S = 10.0
_COLLECT_S = 60.0
_START_S = 300.0
_MB = 1024.0 * 1024.0
#: (hours since the start, MB)
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Plan:
    """How long, and how much."""

    minutes: float
    rate: int
    warm_up_s: float = 20.0


@dataclass
class Curves:
    """What is watched."""

    heap: Curve = field(default_factory=list)
    jvm: Curve = field(default_factory=list)
    python: Curve = field(default_factory=list)

    def named(self) -> dict[str, Curve]:
        """By the names of the table."""
        return {"live heap": self.heap, "memory of the JVM": self.jvm, "memory of Python": self.python}


def live_heap_mb(jvm: int) -> float:
    """What is still in use after a full collection."""
    subprocess.run(["jcmd", str(jvm), "GC.run"], check=True, capture_output=True)
    said = subprocess.run(["jcmd", str(jvm), "GC.heap_info"], check=True, capture_output=True, text=True).stdout
    return heap_of(said)


def heap_of(said: str) -> float:
    """The heap in use, MB, as `jcmd GC.heap_info` prints it. ValueError when it does not."""
    used = re.search(r"heap\s+total \d+K, used (\d+)K", said)
    if used is None:
        raise ValueError(f"jcmd GC.heap_info: no line of the heap in use; got: {said[:300]}")
    return int(used[1]) / 1024.0


def processes(job: int) -> tuple[psutil.Process, list[psutil.Process]]:
    """The JVM of the job, and its Python processes. Stopped when there is none."""
    everything = [psutil.Process(job), *psutil.Process(job).children(recursive=True)]
    jvms = [process for process in everything if process.name() == "java"]
    if not jvms:
        raise Stopped("the job has no JVM")
    return jvms[0], [process for process in everything if "python" in process.name()]


def follow(job: Running, minutes: float, watch: Watch) -> Curves:
    """Sample until the time is over."""
    curves, began, collected = Curves(), time.monotonic(), float("-inf")
    while (passed := time.monotonic() - began) < minutes * 60.0 and job.processes[0].poll() is None:
        jvm, pythons = processes(job.processes[0].pid)
        curves.jvm.append((passed / 3600.0, jvm.memory_info().rss / _MB))
        curves.python.append((passed / 3600.0, sum(process.memory_info().rss for process in pythons) / _MB))
        if passed - collected >= _COLLECT_S:
            collected = passed
            curves.heap.append((passed / 3600.0, live_heap_mb(jvm.pid)))
            watch.say("soak · " + ", ".join(f"{name} {curve[-1][1]:.0f} MB" for name, curve in curves.named().items()))
        time.sleep(_EVERY_S)
    return curves


def measure(bench: harness.Bench, plan: Plan, part: Part, watch: Watch) -> None:
    """Run all lanes under steady traffic."""
    if shutil.which("jcmd") is None:
        part.notes.append("not measured: jcmd is not on PATH; it comes with a JDK (Debian, Ubuntu: openjdk-17-jdk-headless)")
        return
    place = Place(bench.servers, "in.soak", "out.soak", bench.folder / "soak", bench.home, DEFAULT_TRIGGER["realtime"])
    harness.create_topics(bench.servers, *harness.topics_of(place))
    with running(REALTIME_ALL, place) as job:
        try:
            curves, answers = soak(job, place, plan, watch, prepare.answers(bench.home))
        except (Stopped, AssertionError) as failed:
            part.notes.append(f"{job.system.title}: {failed}")
            return
    setting = f"{plan.minutes:g} minutes at {plan.rate:,} events/s, trigger {place.trigger}"
    for name, curve in curves.named().items():
        part.add(name, setting, "at first", "MB", [curve[0][1]])
        part.add(name, setting, "at last", "MB", [curve[-1][1]])
        part.add(name, setting, "slope", "MB/hour", [slope(curve)])
    for measure, value in percentiles(answers.waited_ms).items():
        part.add(job.system.title, setting, measure, "ms", [value])
    part.distributions.append((job.system.title, setting, thinned(answers.waited_ms)))


def soak(job: Running, place: Place, plan: Plan, watch: Watch, expected: dict[str, float]) -> tuple[Curves, load.Answers]:
    """Warm up, then watch while the events are sent; every event must have its answer."""
    generator, reader = load.Generator(place.servers, place.events, place.labels), harness.consumer(place.servers)

    def answered() -> bool:
        return harness.count(reader, place.out, f"{place.out}.rejected") >= generator.total

    generator.run(rate=plan.rate, seconds=plan.warm_up_s)
    job.wait_for(answered, within_s=_START_S, what="the warm-up answered")
    before, sent = harness.ends(reader, place.out), list[load.Sent]()
    traffic = threading.Thread(target=lambda: sent.append(generator.run(rate=plan.rate, seconds=plan.minutes * 60.0)))
    traffic.start()
    curves = follow(job, plan.minutes, watch)
    traffic.join()
    job.wait_for(answered, within_s=_START_S, what="every event answered")
    return curves, load.answers(harness.records(place.servers, place.out, since=before), sent[0], expected)
