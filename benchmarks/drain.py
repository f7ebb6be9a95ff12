"""How fast a backlog is drained, every system in one run, from the launch of its processes on.

    python -m benchmarks suite --parts drain

One topic, filled once; each system reads all of it, one after the other, and writes a topic of its own (the limits write
nothing). Cold: events per second from the launch to the last answer, start of the JVM and planning included. Warm: over the
second half alone. A system that does not finish in time is stopped; its figures are those of what it had done. The number
of answers must be that of the events, and a sample of them the pipeline's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import chain, islice, repeat

from benchmarks import harness, load, prepare
from benchmarks.results import Part
from benchmarks.running import Running, Stopped, running
from benchmarks.statistics import Curve, rate
from benchmarks.systems.base import Place, System
from benchmarks.systems.catalogue import SYSTEMS
from benchmarks.watch import Watch

BACKLOG = "backlog"
_EVERY_S = 0.1
#: Answers compared with the pipeline's, from the start of the topic.
_SAMPLE = 5_000
_START_S = 300.0


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    systems: tuple[str, ...]
    events: int
    #: A system that has not finished by then, counted from its first answer, is stopped.
    cap_s: float


def fill(servers: str, events: int, *, topic: str = BACKLOG) -> None:
    """Put the backlog on the topic; every event happened at the start of the year."""
    sink = harness.Sink({**harness.client(servers), "linger.ms": 20, "queue.buffering.max.messages": 500_000, "compression.type": "lz4"})
    when = load.moment(1_767_225_600.0)
    made = [(event.key, event.at(when)) for event in load.events()]
    for key, value in islice(chain.from_iterable(repeat(made)), events):
        sink.send(topic, key=key, value=value)
    sink.flush()


def measure(bench: harness.Bench, plan: Plan, part: Part, watch: Watch) -> None:
    """Drain the backlog with every system of the plan."""
    expected = prepare.answers(bench.home)
    watch.say(f"drain · fill with {plan.events:,} events")
    harness.create_topics(bench.servers, BACKLOG)
    fill(bench.servers, plan.events)
    for name in plan.systems:
        system = SYSTEMS[name]
        watch.say(f"drain · {system.title}")
        place = Place(bench.servers, BACKLOG, f"drained.{name}", bench.folder / f"drain-{name}", bench.home, "1 minute")
        drained(system, place, plan, part, expected, f"{plan.events:,} events")


def drained(
    system: System,
    place: Place,
    plan: Plan,
    part: Part,
    expected: dict[str, float],
    setting: str,
    *,
    partitions: int = harness.PARTITIONS,
    tolerance: float = load.TOLERANCE,
) -> None:
    """Drain the backlog with one system, and add its figures, or why there are none."""
    if (missing := system.missing()) is not None:
        part.notes.append(missing)
        return
    harness.create_topics(place.servers, *harness.topics_of(place)[1:], partitions=partitions)
    try:
        with running(system, place) as job:
            curve, cpu_s = drain(job, place, plan)
        if system.answers:
            compare(place, expected, tolerance)
    except (Stopped, AssertionError) as failed:
        part.notes.append(f"{system.title}, {setting}: {failed}")
        return
    add(part, system.title, setting, curve, cpu_s)
    if curve[-1][1] < plan.events:
        part.notes.append(
            f"{system.title}, {setting}: stopped after {plan.cap_s:.0f} s, at {curve[-1][1]:,.0f} events; its figures are of those"
        )


def drain(job: Running, place: Place, plan: Plan) -> tuple[Curve, float]:
    """How far the system had come, and when; and the processor seconds that it took."""
    reader, curve = harness.consumer(place.servers), [(job.launched, 0.0)]

    def done() -> bool:
        now, count = _so_far(job, reader, place)
        if count > curve[-1][1]:
            curve.append((now, float(count)))
        first = curve[1][0] if len(curve) > 1 else float("inf")
        return count >= plan.events or time.time() - first > plan.cap_s

    job.wait_for(done, within_s=_START_S + plan.cap_s, what="the backlog drained")
    assert curve[-1][1] <= plan.events, f"{plan.events} events, {curve[-1][1]:.0f} answers"
    return curve, job.cpu_s()


def _so_far(job: Running, reader: harness.Consumer, place: Place) -> tuple[float, int]:
    if job.system.answers:
        return time.time(), harness.count(reader, place.out)
    told = job.told()
    return (told[-1]["at"], told[-1]["rows"]) if told else (time.time(), 0)


def compare(place: Place, expected: dict[str, float], tolerance: float) -> None:
    """AssertionError when one of the first answers is not the pipeline's, or one was refused."""
    assert harness.count(harness.consumer(place.servers), f"{place.out}.rejected") == 0, "events of the backlog were rejected"
    for record in islice(harness.records(place.servers, place.out), _SAMPLE):
        said = json.loads(record.value())
        load.check(said["key"], said["probability"][1], expected, tolerance)


def add(part: Part, title: str, setting: str, curve: Curve, cpu_s: float) -> None:
    """The figures of a curve that begins with the launch."""
    (launched, _), (first, _), *_ = curve
    last, total = curve[-1]
    part.add(title, setting, "cold", "events/s", [total / (last - launched)])
    part.add(title, setting, "warm", "events/s", [rate(curve, since=0.5, until=1.0)])
    part.add(title, setting, "warm, a tenth", "events/s", [rate(curve, since=i / 10.0, until=(i + 1) / 10.0) for i in range(5, 10)])
    part.add(title, setting, "first answer after", "s", [first - launched])
    part.add(title, setting, "CPU per million", "s", [cpu_s / total * 1e6])
