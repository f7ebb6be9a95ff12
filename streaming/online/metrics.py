"""Prequential (test-then-train) metrics over a window of the newest labels; tallies of partitions add up.

Every prediction counts as it was made, before its label was learned (Gama, Sebastião, Rodrigues 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Final, Protocol, TypeVar

import numpy as np

from streaming.online.base import Array, Labels
from streaming.online.weights import Scored

#: Probabilities are kept away from 0 and 1 by this much in log loss, so that one sure mistake costs 34.5, not infinity.
CAUTIOUS: Final = 1e-15
#: Bins of the score histogram. Pairs of one bin count as ties: the AUC is off by at most half their share.
BINS: Final = 1000


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over `n` labelled predictions: loss, hits, |error|, error², and histograms (BINS,) of p by class. Additive."""

    n: int
    loss: float
    hits: float
    absolute: float
    squared: float
    positives: Array
    negatives: Array


def loss(labels: Labels, y: Array, scored: Scored) -> Array:
    """(n,) loss of each prediction: log loss for classes, Poisson deviance / 2 for counts, else squared error."""
    if scored.probability is not None and labels in ("binary", "classes"):
        p = scored.probability[np.arange(len(y)), y.astype(int)]
        return np.asarray(-np.log(np.clip(p, CAUTIOUS, 1.0)))
    if labels == "count":
        rate = np.maximum(scored.prediction, CAUTIOUS)
        return np.asarray(rate - y + y * np.log(np.maximum(y, CAUTIOUS) / rate))
    return np.asarray((scored.prediction - y) ** 2)


def nothing() -> Tally:
    """No predictions."""
    return Tally(0, 0.0, 0.0, 0.0, 0.0, np.zeros(BINS), np.zeros(BINS))


def tally(labels: Labels, y: Array, scored: Scored) -> Tally:
    """The sums over rows scored before their labels `y` were learned."""
    if len(y) == 0:
        return nothing()
    error = scored.prediction - y
    positives, negatives = np.zeros(BINS), np.zeros(BINS)
    if labels == "binary" and scored.probability is not None:
        which = np.minimum((scored.probability[:, 1] * BINS).astype(int), BINS - 1)
        positives += np.bincount(which, weights=y, minlength=BINS)
        negatives += np.bincount(which, weights=1.0 - y, minlength=BINS)
    return Tally(
        len(y),
        float(loss(labels, y, scored).sum()),
        float((scored.prediction == y).sum()),
        float(np.abs(error).sum()),
        float((error**2).sum()),
        positives,
        negatives,
    )


def merge(a: Tally, b: Tally) -> Tally:
    """Both sets of predictions."""
    return Tally(
        a.n + b.n,
        a.loss + b.loss,
        a.hits + b.hits,
        a.absolute + b.absolute,
        a.squared + b.squared,
        a.positives + b.positives,
        a.negatives + b.negatives,
    )


def auc(t: Tally) -> tuple[float, float]:
    """Area under the ROC curve and the greatest error the bins can have caused; NaN while one class is missing.

    AUC = P(p of a positive > p of a negative) + P(tie) / 2 (Hanley, McNeil 1982); pairs in one bin count as ties.
    """
    pairs = t.positives.sum() * t.negatives.sum()
    if pairs == 0:
        return math.nan, math.nan
    below = np.concatenate([[0.0], t.negatives.cumsum()[:-1]])
    ties = float((t.positives * t.negatives).sum() / pairs)
    return float((t.positives * below).sum() / pairs) + ties / 2.0, ties / 2.0


def report(labels: Labels, t: Tally) -> dict[str, float]:
    """The metrics that fit the labels: log_loss, accuracy, auc; or mae, rmse. Empty without predictions."""
    if t.n == 0 or labels == "none":
        return {}
    if labels in ("binary", "classes"):
        values = {"log_loss": t.loss / t.n, "accuracy": t.hits / t.n}
        return values | {"auc": auc(t)[0]} if labels == "binary" else values
    values = {"mae": t.absolute / t.n, "rmse": math.sqrt(t.squared / t.n)}
    return values | {"deviance": 2.0 * t.loss / t.n} if labels == "count" else values


class Counted(Protocol):
    """Sums over `n` rows."""

    @property
    def n(self) -> int:
        """The number of rows."""


B = TypeVar("B", bound=Counted)


def newest(batches: tuple[B, ...], batch: B, rows: int) -> tuple[B, ...]:
    """`batch` added, and old batches dropped as far as `rows` rows stay; an empty batch is not kept."""
    kept = (*batches, batch) if batch.n else batches
    held = sum(b.n for b in kept)
    while kept and held - kept[0].n >= rows:
        held -= kept[0].n
        kept = kept[1:]
    return kept


@dataclass(frozen=True, eq=False)
class TallyWindow:
    """The newest batches that together hold at least `rows` predictions (or all, while there are fewer)."""

    rows: int
    batches: tuple[Tally, ...] = ()

    def push(self, batch: Tally) -> TallyWindow:
        """A new window with `batch` added; see :func:`newest`."""
        return TallyWindow(self.rows, newest(self.batches, batch, self.rows))

    def total(self) -> Tally:
        """The sums over the window."""
        return reduce(merge, self.batches, nothing())
