"""The arithmetic of the benchmarks, pure: percentiles, windows, medians with their spread, rates and slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: How far a count had come, and when: (time in s, count), both growing.
Curve = Sequence[tuple[float, float]]

#: The share of events that each figure of a latency bounds, in per cent.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


@dataclass(frozen=True)
class Spread:
    """Repeats of one figure: their median, the least and the greatest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of the repeats. ValueError when there are none."""
    if not len(values):
        raise ValueError("no repeats: a figure needs at least one")
    return Spread(float(np.median(values)), float(np.min(values)), float(np.max(values)))


def latencies(due_ms: Floats, done_ms: Floats) -> Floats:
    """What each event waited, from when it was due. `done_ms` are whole milliseconds, cut off: never below 0."""
    return np.maximum(done_ms - due_ms, 0.0)


def percentiles(ms: Floats) -> dict[str, float]:
    """The figures of :data:`PERCENTILES`."""
    return dict(zip(PERCENTILES, np.percentile(ms, list(PERCENTILES.values())).tolist(), strict=True))


def windows(at: Floats, values: Floats, n: int) -> list[Floats]:
    """The values of `n` equal stretches of time, by their times `at`; a stretch without any is left out."""
    if n == 1 or at[-1:].size == 0 or at.min() == at.max():
        return [values]
    number = np.minimum(((at - at.min()) / (at.max() - at.min()) * n).astype(int), n - 1)
    return [values[number == i] for i in range(n) if (number == i).any()]


def reached(curve: Curve, count: float) -> float:
    """When the curve came to `count`, on a straight line between its points. ValueError when it never did."""
    times, counts = np.array(curve, dtype=np.float64).T
    if counts[-1] < count:
        raise ValueError(f"the curve ends at {counts[-1]:.0f}, before {count:.0f}")
    after = int(np.argmax(counts >= count))
    if after == 0 or counts[after] == counts[after - 1]:
        return float(times[after])
    share = (count - counts[after - 1]) / (counts[after] - counts[after - 1])
    return float(times[after - 1] + share * (times[after] - times[after - 1]))


def rate(curve: Curve, *, since: float, until: float) -> float:
    """Counts per second between two shares of the last count, in [0, 1]: `since=0.5, until=1` is the second half."""
    total = curve[-1][1]
    seconds = reached(curve, until * total) - reached(curve, since * total)
    return float((until - since) * total / max(seconds, 1e-3))


def slope(curve: Curve) -> float:
    """Growth per unit of time, by least squares over the last two thirds; NaN with fewer than two points."""
    last = curve[-1][0]
    at, value = np.array([point for point in curve if point[0] >= last / 3.0], dtype=np.float64).T
    return float(np.polyfit(at, value, 1)[0]) if len(at) > 1 else float("nan")


def thinned(ms: Floats, n: int = 400) -> list[float]:
    """`n` quantiles from the least to the greatest, with half of them in the last two per cent: enough to draw the distribution."""
    return [float(value) for value in np.percentile(ms, shares(n))]


def shares(n: int) -> Floats:
    """The per cents that :func:`thinned` took, for as many quantiles."""
    return np.concatenate([np.linspace(0.0, 98.0, n // 2, endpoint=False), np.linspace(98.0, 100.0, n - n // 2)])
