"""What a run found: figures with their repeats, kept as JSON part by part, so that a report can be made again at any time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.statistics import Spread, spread


@dataclass(frozen=True)
class Figure:
    """One figure of one system in one setting."""

    system: str
    setting: str
    measure: str
    unit: str
    #: One for each repeat, or for each window of one run.
    repeats: Sequence[float]

    @property
    def spread(self) -> Spread:
        """Median, least and greatest."""
        return spread(self.repeats)


@dataclass
class Part:
    """What one part of the benchmarks found, and how it was measured."""

    name: str
    title: str
    how: str
    when: str = ""
    seconds: float = 0.0
    #: How often each system was started and measured anew; a figure has as many repeats, or as many stretches for each.
    rounds: int = 1
    #: Load average of the machine before and after.
    load: tuple[float, float] = (0.0, 0.0)
    figures: list[Figure] = field(default_factory=list)
    #: What could not be measured, and why; one line each.
    notes: list[str] = field(default_factory=list)
    #: (system, setting) -> quantiles of the latency, for the chart.
    distributions: list[tuple[str, str, list[float]]] = field(default_factory=list)

    def add(self, system: str, setting: str, measure: str, unit: str, repeats: Sequence[float]) -> None:
        """Add a figure; in a later round, its further repeats."""
        for i, known in enumerate(self.figures):
            if (known.system, known.setting, known.measure) == (system, setting, measure):
                self.figures[i] = replace(known, repeats=[*known.repeats, *repeats])
                return
        self.figures.append(Figure(system, setting, measure, unit, list(repeats)))

    def get(self, system: str, setting: str, measure: str) -> float | None:
        """The median of a figure; None when it was not measured."""
        for figure in self.figures:
            if (figure.system, figure.setting, figure.measure) == (system, setting, measure):
                return figure.spread.median
        return None


@dataclass
class Results:
    """The parts that were measured, and on what."""

    machine: dict[str, str]
    parts: dict[str, Part] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))


def load(path: Path) -> Results:
    """What :meth:`Results.save` wrote."""
    tree: dict[str, Any] = json.loads(path.read_text())
    parts = {}
    for name, part in tree["parts"].items():
        figures = [Figure(**figure) for figure in part.pop("figures")]
        distributions = [(system, setting, values) for system, setting, values in part.pop("distributions")]
        parts[name] = Part(**part | {"load": tuple(part["load"])}, figures=figures, distributions=distributions)
    return Results(tree["machine"], parts)
