"""How good the answers were: counts of answers beside their labels that can be added, what follows from them, and what can be
expected before the labels come.

A quality vector begins with n, hits, the sums of the loss, of its square and of |prediction - label|. For a probability
the answers with label 1 and those with label 0 follow, by the hundred cells of the probability.

    task         loss
    probability  log loss, the probability kept 1e-6 away from 0 and 1
    class        1 for a wrong class, else 0
    number       squared error
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from streaming.monitor.bins import PROBABILITY_BINS, PROBABILITY_EDGES

Task = Literal["probability", "class", "number"]
Floats = NDArray[np.float64]

N, HITS, LOSS, LOSS2, ABSOLUTE = range(5)
_HEAD: Final = 5
_LEAST: Final = 1e-6
#: Two-sided 95 %.
_Z: Final = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    name: str
    value: float
    low: float
    high: float


def width(task: Task) -> int:
    """The length of a quality vector."""
    return _HEAD + (2 * PROBABILITY_BINS if task == "probability" else 0)


def losses(prediction: Floats, score: Floats, label: Floats, *, task: Task) -> Floats:
    """The loss of each answer, all of shape (n,). `score`: the probability of class 1 where the task is probability."""
    if task == "probability":
        p = np.clip(score, _LEAST, 1.0 - _LEAST)
        return np.asarray(-np.log(np.where(label > 0.5, p, 1.0 - p)))
    return (prediction != label).astype(np.float64) if task == "class" else np.square(prediction - label)


def of_pairs(prediction: Floats, score: Floats, label: Floats, *, task: Task) -> Floats:
    """The quality vector of answers beside their labels, all of shape (n,)."""
    loss = losses(prediction, score, label, task=task)
    head = [len(label), (prediction == label).sum(), loss.sum(), np.square(loss).sum(), np.abs(prediction - label).sum()]
    if task != "probability":
        return np.asarray(head, dtype=np.float64)
    cell = np.searchsorted(np.asarray(PROBABILITY_EDGES), score, side="left")
    sides = [np.bincount(cell[side], minlength=PROBABILITY_BINS) for side in (label > 0.5, label <= 0.5)]
    return np.concatenate([np.asarray(head, dtype=np.float64), *sides])


def measures(vector: Floats, *, task: Task) -> list[Estimate]:
    """What a quality vector says, with confidence intervals; empty without answers.

    Accuracy: Wilson's interval. Area under the ROC curve: from the hundred cells (ties inside a cell count half), Hanley
    and McNeil's interval. Means: the normal interval.
    """
    n = vector[N]
    if not n:
        return []
    loss = _mean("log_loss" if task == "probability" else "rmse" if task == "number" else "error", vector)
    if task == "number":
        return [_root(loss), Estimate("mae", vector[ABSOLUTE] / n, math.nan, math.nan)]
    estimates = [wilson("accuracy", vector[HITS], n)]
    if task == "probability":
        estimates += [*_area(*_sides(vector)), loss, Estimate("calibration_error", calibration_error(vector), math.nan, math.nan)]
    return estimates


def scores(vector: Floats) -> Floats:
    """How many answers are in each of the hundred cells of the probability, whatever their label."""
    positive, negative = _sides(vector)
    return positive + negative


def _sides(vector: Floats) -> tuple[Floats, Floats]:
    return vector[_HEAD : _HEAD + PROBABILITY_BINS], vector[_HEAD + PROBABILITY_BINS :]


def wilson(name: str, hits: float, n: float) -> Estimate:
    """A share with Wilson's interval."""
    p, z2 = hits / n, _Z * _Z
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Estimate(name, p, middle - half, middle + half)


def _mean(name: str, vector: Floats) -> Estimate:
    mean, half = vector[LOSS] / vector[N], _Z * standard_error(vector)
    return Estimate(name, mean, mean - half, mean + half)


def _root(mean: Estimate) -> Estimate:
    return Estimate(mean.name, *(math.sqrt(max(0.0, x)) for x in (mean.value, mean.low, mean.high)))


def standard_error(vector: Floats) -> float:
    """Of the mean loss."""
    n = vector[N]
    return math.sqrt(max(0.0, vector[LOSS2] / n - (vector[LOSS] / n) ** 2) / n)


def area(positive: Floats, negative: Floats) -> float:
    """The area under the ROC curve from counts (or expected counts) by cells of a rising score; NaN when a side is empty."""
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else math.nan


def _area(positive: Floats, negative: Floats) -> list[Estimate]:
    a, p, n = area(positive, negative), positive.sum(), negative.sum()
    if math.isnan(a):
        return []
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n)
    half = _Z * math.sqrt(max(0.0, variance))
    return [Estimate("area_under_roc", a, max(0.0, a - half), min(1.0, a + half))]


def reliability(vector: Floats, *, bins: int = 10) -> list[tuple[float, float, float]]:
    """(answers, mean probability said, share of label 1) for each of `bins` equal parts of the probability that has any."""
    positive, negative = _sides(vector)
    n, part = positive + negative, np.minimum((_middles() * bins).astype(np.int64), bins - 1)
    counts, said, true = (np.bincount(part, weights=x, minlength=bins) for x in (n, n * _middles(), positive))
    return [(float(k), float(m / k), float(t / k)) for k, m, t in zip(counts, said, true, strict=True) if k]


def calibration_error(vector: Floats) -> float:
    """The mean distance of what was said from what came true, over ten bins (ECE)."""
    rows = reliability(vector)
    return sum(n * abs(said - true) for n, said, true in rows) / sum(n for n, _, _ in rows)


def calibrated(vector: Floats) -> Floats:
    """What each of the hundred cells of a probability is worth: the share of label 1, made monotone (isotonic regression).

    A cell is given one row more than it has, of the probability that it says: an empty one is taken at its word.
    """
    positive, negative = _sides(vector)
    weight = positive + negative + 1.0
    regression = optimize.isotonic_regression((positive + _middles()) / weight, weights=weight)
    return np.asarray(np.clip(regression.x, 0.0, 1.0))


def expected(scores: Floats, worth: Floats) -> list[Estimate]:
    """Accuracy and area under the ROC curve to be expected of answers whose labels have not come (CBPE).

    `scores`: answers by the hundred cells; `worth`: :func:`calibrated` of the baseline. Right as far as the meaning of
    the inputs has not changed: it sees that harder cases came, never that the truth about them is another.
    """
    n = scores.sum()
    if not n:
        return []
    says_one = np.arange(PROBABILITY_BINS) >= PROBABILITY_BINS // 2
    right = np.where(says_one, worth, 1.0 - worth)
    accuracy, half = float((scores * right).sum() / n), _Z * math.sqrt(float((scores * right * (1 - right)).sum())) / n
    estimates = [Estimate("accuracy", accuracy, accuracy - half, accuracy + half)]
    return estimates + _area(scores * worth, scores * (1.0 - worth))


def _middles() -> Floats:
    """The probability in the middle of each cell."""
    borders = np.asarray([0.0, *PROBABILITY_EDGES, 1.0])
    return np.asarray((borders[1:] + borders[:-1]) / 2)
