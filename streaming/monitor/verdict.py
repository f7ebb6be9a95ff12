"""What a batch says beyond the windows' counts: losses to the detectors of concept drift, windows to the rules. Pure.

All that is remembered stands in the state beside the windows, as plain values, so that a repeated batch says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from streaming.config.monitoring import Alerts
from streaming.monitor import alerts, concept, quality
from streaming.monitor.alerts import Alert, Memory, Service
from streaming.monitor.ledger import Taken
from streaming.monitor.record import Measure, Record
from streaming.monitor.statistics import ALL, QUALITY
from streaming.monitor.windows import BatchOutcome, Published, Watch

#: Drifts of the concept are remembered for so many: a window that is published again still shows its own.
_EVENTS: Final = 200

Beside = Mapping[str, Any]


@dataclass(frozen=True)
class Fired:
    """A detector fired."""

    model: str
    detector: str
    #: The arrival of the newest label of that batch, ms since 1970.
    at: int


def concepts(folded: BatchOutcome, watch: Watch) -> BatchOutcome:
    """The outcome of a batch, the losses of its pairs carried into each model's detectors. Without `river` nothing is detected."""
    beside = dict(folded.state.beside)
    if find_spec("river") is None:
        return folded
    losses = dict(beside.get("losses", {}))
    fired = list(beside.get("fired", []))
    for number, model in enumerate(watch.models):
        new, at = _losses(folded.taken, number, watch)
        if not len(new):
            continue
        before = concept.Losses.from_json(losses[model.name]) if model.name in losses else concept.Losses()
        after, names = concept.extend(before, new)
        losses[model.name] = after.to_json()
        fired += [[model.name, name, at] for name in names]
    return replace(folded, state=replace(folded.state, beside={**beside, "losses": losses, "fired": fired[-_EVENTS:]}))


def _losses(taken: Taken, number: int, watch: Watch) -> tuple[quality.Floats, int]:
    """The losses of one model's new pairs in the order of their labels, and when the newest came."""
    own = np.flatnonzero(taken.pairs["model"] == number)
    order = own[np.lexsort((taken.pairs["id"][own], taken.labelled_at[own]))]
    pairs, model = taken.pairs[order], watch.models[number]
    scale = _scale(watch) if model.task == "number" else 1.0
    losses = concept.bounded(pairs["prediction"], pairs["score"], taken.y[order], task=model.task, scale=scale)
    return losses, int(taken.labelled_at[order].max()) if len(order) else 0


def _scale(watch: Watch) -> float:
    """The mean squared error that the baseline knows; 1 where it knows none."""
    vector = watch.baseline.statistics.get(ALL, f"{QUALITY}{watch.models[0].name}")
    return 1.0 if vector is None or not vector[quality.N] else float(vector[quality.LOSS] / vector[quality.N]) or 1.0


def of_concept(window: Published, beside: Beside, watch: Watch) -> Iterator[Measure]:
    """What the detectors said of the labels of a window; for each model that had any, "agreed" is 1 or 0."""
    said = [Fired(*entry) for entry in beside.get("fired", []) if window.start <= entry[2] < window.start + watch.window]
    for model in watch.models:
        vector = window.statistics.get(ALL, f"{QUALITY}{model.name}")
        if vector is None:
            continue
        names = {fired.detector for fired in said if fired.model == model.name}
        yield from (Measure("concept", model.name, name, 1.0) for name in concept.DETECTORS if name in names)
        agreed = "agreed" in names
        yield Measure("concept", model.name, "agreed", float(agreed), threshold=1.0, rows=int(vector[quality.N]), drifted=agreed)


def alarms(
    records: Sequence[Record], beside: Beside, section: Alerts, service: Service, *, now: datetime
) -> tuple[Beside, list[Alert], list[Alert]]:
    """What is remembered after these windows, whom to tell what, and the alerts that were raised only now."""
    memory = {on: Memory.from_json(values) for on, values in beside.get("alerts", {}).items()}
    told: list[Alert] = []
    new: list[Alert] = []
    for record in sorted(records, key=lambda r: r.start):
        outcome = alerts.judge(record, section.rules, memory, service, silence=section.silence, now=now)
        memory = dict(outcome.memory)
        told += outcome.alerts
        new += outcome.new
    return {**beside, "alerts": {on: m.to_json() for on, m in memory.items()}}, told, new
