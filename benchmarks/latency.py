"""How long an event waits for its answer, every system in one run: from the moment it was due to the broker's stamp on the answer.

    python -m benchmarks suite --parts latency

One system after the other on the same broker, each with topics of its own. The warm-up is compared with the pipeline's
answers, then each rate is sent in an open loop. Nothing is left out: real-time mode pauses at each trigger, and a window
at the first rate is a whole trigger long. A system that is too slow for a rate is not asked for a higher one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks import harness, load, prepare
from benchmarks.results import Part
from benchmarks.running import Running, Stopped, running
from benchmarks.statistics import percentiles, thinned, windows
from benchmarks.systems.base import Place, System
from benchmarks.systems.catalogue import SYSTEMS
from benchmarks.watch import Watch

#: How long a system may take to start, and to answer what it was sent.
_START_S = 300.0
_CATCH_UP_S = 15.0
#: Stretches of a window: their medians and 99th percentiles are the repeats.
_STRETCHES = 5


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    systems: tuple[str, ...]
    #: (events per second, seconds)
    rates: tuple[tuple[int, float], ...]
    #: Seconds at the first rate for systems in real-time mode, which is their trigger as well.
    trigger_s: int
    warm_up_s: float


def setting(rate: int) -> str:
    """How a rate is written in tables."""
    return f"{rate:,} events/s"


def measure(bench: harness.Bench, plan: Plan, part: Part, watch: Watch) -> None:
    """Measure every system of the plan."""
    expected = prepare.answers(bench.home)
    for name in plan.systems:
        system = SYSTEMS[name]
        if (missing := system.missing()) is not None:
            part.notes.append(missing)
            continue
        place = Place(bench.servers, f"in.{name}", f"out.{name}", bench.folder / f"latency-{name}", bench.home, f"{plan.trigger_s} seconds")
        harness.create_topics(bench.servers, *harness.topics_of(place))
        watch.say(f"latency · {system.title} · start")
        try:
            with running(system, place) as job:
                _System(bench, job, place, expected if system.answers else None).measure(plan, part, watch)
        except (Stopped, AssertionError) as failed:
            part.notes.append(f"{system.title}: {failed}")


@dataclass
class _System:
    bench: harness.Bench
    job: Running
    place: Place
    expected: dict[str, float] | None

    def measure(self, plan: Plan, part: Part, watch: Watch) -> None:
        """Warm up, compare, and measure rate after rate."""
        system: System = self.job.system
        generator = load.Generator(self.place.servers, self.place.events, self.place.labels if system.learns else None)
        reader = harness.consumer(self.place.servers)
        rates = [(rate, float(plan.trigger_s) if system.realtime and not i else s) for i, (rate, s) in enumerate(plan.rates)]
        # The warm-up may meet a system that still starts; so may its answers.
        self._stretch(generator, reader, rate=rates[0][0], seconds=plan.warm_up_s, patience_s=_START_S)
        for rate, seconds in rates:
            watch.say(f"latency · {system.title} · {setting(rate)}")
            try:
                answers, sent = self._stretch(generator, reader, rate=rate, seconds=seconds, patience_s=_CATCH_UP_S)
            except Stopped as slow:
                part.notes.append(f"{system.title}, {setting(rate)}: {slow}; not asked for more")
                return
            _add(part, system.title, setting(rate), answers, sent)

    def _stretch(
        self, generator: load.Generator, reader: harness.Consumer, *, rate: int, seconds: float, patience_s: float
    ) -> tuple[load.Answers, load.Sent]:
        before = harness.ends(reader, self.place.out)
        sent = generator.run(rate=rate, seconds=seconds)
        answered = partial(harness.count, reader, *(topic for topic in (self.place.out, f"{self.place.out}.rejected")))
        self.job.wait_for(lambda: answered() >= generator.total, within_s=patience_s, what="every event answered")
        return load.answers(harness.records(self.place.servers, self.place.out, since=before), sent, self.expected), sent


def _add(part: Part, title: str, rate: str, answers: load.Answers, sent: load.Sent) -> None:
    stretches = [percentiles(ms) for ms in windows(answers.due_ms, answers.waited_ms, _STRETCHES)]
    over_all = percentiles(answers.waited_ms)
    for measure in ("p50", "p90", "p99", "max"):
        part.add(title, rate, measure, "ms", [over_all[measure]])
    for measure in ("p50", "p99"):
        part.add(title, rate, f"{measure} of a fifth", "ms", [stretch[measure] for stretch in stretches])
    part.add(title, rate, "generator p99", "ms", [sent.late_ms_p99])
    part.distributions.append((title, rate, thinned(answers.waited_ms)))
