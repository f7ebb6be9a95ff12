"""How the cost of draining grows: 1 to 2 cores, 1 to 16 partitions, 1 to 20 models beside each other.

    python -m benchmarks scaling

The models beside the pipeline are learners that share its features: what a job can hold today. How cost grows with the
number of features is what `python -m benchmarks cost` measures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from benchmarks import drain, harness, prepare
from benchmarks.results import Part
from benchmarks.systems.base import Place
from benchmarks.systems.ours import MICROBATCH_SCORE, Ours
from benchmarks.watch import Watch
from streaming.runtime import jars


@dataclass(frozen=True)
class Plan:
    """What is measured, with how many events."""

    cores: tuple[int, ...]
    partitions: tuple[int, ...]
    models: tuple[int, ...]
    events: int
    cap_s: float


def learners(n: int) -> dict[str, Any]:
    """The settings of `n` learners beside the pipeline."""
    demo = yaml.safe_load(jars.conf_file("demo.yaml").read_text())
    (learner,) = demo["learners"]
    return {"learners": [{**learner, "name": f"{learner['name']}-{i}"} for i in range(n)]}


@dataclass(frozen=True)
class Beside(Ours):
    """The score lane with learners beside the pipeline; nobody teaches them here."""

    learners: int = 0

    def configuration(self, place: Place) -> dict[str, Any]:
        """The demo's, with so many learners."""
        tree = super().configuration(place)
        if self.learners:
            demo = yaml.safe_load(jars.conf_file("demo.yaml").read_text())
            tree["predictions"]["shadow_topic"] = f"{place.out}.shadow"
            tree |= {"labels": {**demo["labels"], "topic": place.labels}, **learners(self.learners)}
        return tree


_ALONE: Final = Beside(MICROBATCH_SCORE.title, "microbatch")


def settings(plan: Plan) -> list[tuple[str, Ours, int]]:
    """(how it is written in the table, the system, partitions)"""
    cores = [
        (
            f"{n} core{'s' * (n > 1)}, {harness.PARTITIONS} partitions",
            replace(_ALONE, settings={"spark": {"master": f"local[{n}]"}}),
            harness.PARTITIONS,
        )
        for n in plan.cores
    ]
    partitions = [(f"{n} partition{'s' * (n > 1)}", _ALONE, n) for n in plan.partitions]
    models = [(f"{n} model{'s' * (n > 1)}", replace(_ALONE, learners=n - 1), harness.PARTITIONS) for n in plan.models]
    return [*cores, *partitions, *models]


def measure(bench: harness.Bench, plan: Plan, part: Part, watch: Watch) -> None:
    """Drain the same number of events in each setting."""
    expected, filled = prepare.answers(bench.home), set[str]()
    for number, (setting, system, partitions) in enumerate(settings(plan)):
        backlog = f"backlog.{partitions}"
        if backlog not in filled:
            filled.add(backlog)
            harness.create_topics(bench.servers, backlog, partitions=partitions)
            drain.fill(bench.servers, plan.events, topic=backlog)
        watch.say(f"scaling · {setting}")
        place = Place(bench.servers, backlog, f"scaled.{number}", bench.folder / f"scaling-{number}", bench.home, "1 minute")
        limits = drain.Plan((), plan.events, plan.cap_s)
        drain.drained(system, place, limits, part, expected, setting, partitions=partitions)
