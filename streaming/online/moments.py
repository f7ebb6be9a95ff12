"""Running mean and variance of columns: exact for any split of the rows, optionally forgetting, optionally robust.

One row (Welford 1962, with forgetting factor γ per row):

    n = γ n + 1;   δ = x - mean;   mean += δ / n;   m2 = γ m2 + δ (x - mean)

Two sets of rows (Chan, Golub, LeVeque 1979):

    n = n_a + n_b;   δ = mean_b - mean_a;   mean = mean_a + δ n_b / n;   m2 = m2_a + m2_b + δ² n_a n_b / n
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from streaming.online.base import Array

#: A column whose deviation is below this share of its mean is constant up to rounding: it is left unscaled.
CONSTANT: Final = 1e-9
#: Rows are processed in blocks, so that temporary arrays stay in the cache and γ**-block stays below 2**30.
BLOCK: Final = 256
#: Before this many rows the deviation is too uncertain to call anything an outlier.
SETTLED: Final = 100.0


@dataclass(frozen=True, eq=False)
class Moments:
    """`n` rows (decayed), `mean` (m,), `m2` (m,): sum of squared deviations."""

    n: float
    mean: Array
    m2: Array


def empty(m: int) -> Moments:
    """No rows, `m` columns."""
    return Moments(0.0, np.zeros(m), np.zeros(m))


def merge(a: Moments, b: Moments) -> Moments:
    """Both sets of rows (Chan)."""
    n = a.n + b.n
    if n == 0.0:
        return a
    delta = b.mean - a.mean
    return Moments(n, a.mean + delta * (b.n / n), a.m2 + b.m2 + delta * delta * (a.n * b.n / n))


def fade(a: Moments, factor: float) -> Moments:
    """All rows lighter by `factor`; mean and variance stay."""
    return Moments(a.n * factor, a.mean, a.m2 * factor)


def without(total: Moments, base: Moments) -> Moments:
    """The rows of `total` that are not in `base` (Chan, solved for b)."""
    n = total.n - base.n
    if n <= 0.0:
        return empty(len(total.mean))
    mean = (total.n * total.mean - base.n * base.mean) / n
    m2 = total.m2 - base.m2 - (mean - base.mean) ** 2 * (base.n * n / total.n)
    return Moments(n, mean, np.maximum(m2, 0.0))


def spread(a: Moments) -> Array:
    """(m,) standard deviation; 1 for a column that is constant up to rounding."""
    return spreads(a.n, a.mean, a.m2)


def spreads(n: float | Array, mean: Array, m2: Array) -> Array:
    """:func:`spread` for one set of moments or for one per row."""
    deviation = np.sqrt(np.maximum(m2, 0.0) / np.maximum(n, 1e-300))
    return np.where(deviation > CONSTANT * np.abs(mean), deviation, 1.0)


@dataclass(frozen=True, eq=False)
class Course:
    """The moments after each of n rows: `means` and `deviations` (n, m); `values` (n, m), outliers cut; and `last`."""

    values: Array
    means: Array
    deviations: Array
    last: Moments


def course(start: Moments, X: Array, *, gamma: float = 1.0, cut: float = math.inf) -> Course:
    """Follow the moments row by row, starting from `start`.

    A value further than `cut` deviations from the mean *before* its row is moved to that distance, once `SETTLED`
    rows are known: one wild value must not flatten a feature's scale for all rows that follow, while a true shift
    still widens the deviation by up to a factor √(1 + cut²/n) per row and is soon accepted.
    """
    size = BLOCK if gamma == 1.0 else max(1, min(BLOCK, int(-30.0 * math.log(2.0) / math.log(gamma))))
    parts: list[Course] = []
    for i in range(0, len(X), size):
        parts.append(_block(start, X[i : i + size], gamma, cut))
        start = parts[-1].last
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Course(X, X, X, start)
    values, means, deviations = (np.concatenate([getattr(p, name) for p in parts]) for name in ("values", "means", "deviations"))
    return Course(values, means, deviations, start)


def _block(start: Moments, X: Array, gamma: float, cut: float) -> Course:
    course = _cumulative(start, X, gamma)
    if math.isinf(cut):
        return course
    wild = np.flatnonzero((np.abs(X - _bounded(start, X, course, gamma, cut)) > 0.0).any(axis=1))
    if len(wild) == 0:
        return course
    return _row_by_row(start, X, gamma, cut)


def _cumulative(start: Moments, X: Array, gamma: float) -> Course:
    """All rows at once by cumulative sums, shifted by the starting mean so that nothing cancels."""
    shift = start.mean if start.n > 0 else X[0]
    Y = X - shift
    if gamma == 1.0:
        n = start.n + np.arange(1.0, len(X) + 1.0)[:, None]
        first, second = Y.cumsum(axis=0), (Y * Y).cumsum(axis=0) + start.m2
    else:
        power = gamma ** -np.arange(1.0, len(X) + 1.0)[:, None]
        n = ((power.cumsum(axis=0)) + start.n) / power
        first, second = (Y * power).cumsum(axis=0) / power, ((Y * Y * power).cumsum(axis=0) + start.m2) / power
    offset = first / n
    m2 = np.maximum(second - first * offset, 0.0)
    means = shift + offset
    return Course(X, means, spreads(n, means, m2), Moments(float(n[-1, 0]), means[-1], m2[-1]))


def _bounded(start: Moments, X: Array, course: Course, gamma: float, cut: float) -> Array:
    """X with outliers cut, judged by the moments before each row; rows before `SETTLED` stay as they are."""
    means = np.vstack([start.mean, course.means[:-1]])
    reach = cut * np.vstack([spread(start), course.deviations[:-1]])
    i = np.arange(len(X), dtype=float)
    before = start.n + i if gamma == 1.0 else start.n * gamma**i + (1.0 - gamma**i) / (1.0 - gamma)
    return np.where((before >= SETTLED)[:, None], np.clip(X, means - reach, means + reach), X)


def _row_by_row(start: Moments, X: Array, gamma: float, cut: float) -> Course:
    """The slow way, for a block in which something is cut: a cut value changes the bounds of the next row."""
    values, means, deviations, now = X.copy(), np.empty_like(X), np.empty_like(X), start
    for i, x in enumerate(X):
        now, values[i] = step(now, x, gamma=gamma, cut=cut)
        means[i], deviations[i] = now.mean, spread(now)
    return Course(values, means, deviations, now)


def step(now: Moments, x: Array, *, gamma: float, cut: float) -> tuple[Moments, Array]:
    """The moments after one row (Welford), and the row with outliers cut."""
    if now.n >= SETTLED and not math.isinf(cut):
        reach = cut * spread(now)
        x = np.clip(x, now.mean - reach, now.mean + reach)
    n = gamma * now.n + 1.0
    delta = x - now.mean
    mean = now.mean + delta / n
    return Moments(n, mean, gamma * now.m2 + delta * (x - mean)), x
