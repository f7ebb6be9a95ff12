"""Has a learner gone astray? Its prequential loss over a window is compared with the dullest predictor there is.

The baseline knows no features: the running mean label (for classes the running class shares), also test-then-train.
A learner that does worse than that over a whole window is harmful, whatever the reason: a learning rate too large, labels
of another meaning, features that were redefined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from streaming.online.base import Array, Labels
from streaming.online.metrics import loss, newest
from streaming.online.weights import Scored, Weights

#: The least window on which a verdict rests: the standard error of a mean over 100 rows is a tenth of the spread.
ENOUGH: Final = 100


@dataclass(frozen=True, eq=False)
class LabelBaseline:
    """Labels seen: `n`, their `total`, and the count of each class (k,), empty without classes."""

    n: int
    total: float
    shares: Array

    @classmethod
    def start(cls, classes: int) -> LabelBaseline:
        """No labels yet."""
        return cls(0, 0.0, np.zeros(classes))

    def losses(self, labels: Labels, y: Array) -> Array:
        """(n,) loss of the baseline on `y`, before learning from it. Class shares start from one of each (Laplace)."""
        shares = (self.shares + 1.0) / (self.n + max(len(self.shares), 1))
        probability = np.broadcast_to(shares, (len(y), len(shares))) if len(shares) else None
        mean = np.full(len(y), self.total / self.n if self.n else 0.0)
        return loss(labels, y, Scored(mean, probability))

    def learn(self, y: Array) -> LabelBaseline:
        """The baseline after labels `y`."""
        counts = np.bincount(y.astype(int), minlength=len(self.shares)) if len(self.shares) else self.shares
        return LabelBaseline(
            self.n + len(y), self.total + float(y.sum()), np.asarray(self.shares + counts) if len(self.shares) else self.shares
        )


@dataclass(frozen=True)
class Divergence:
    """`ok` or `diverged`, and why, with the numbers."""

    status: Literal["ok", "diverged"]
    reason: str


@dataclass(frozen=True)
class Batch:
    """Of one batch: rows, the learner's loss, the baseline's loss (sums)."""

    n: int
    loss: float
    baseline: float


@dataclass(frozen=True)
class DivergenceWatch:
    """The last batches with at least `window` rows. Diverged: the learner's loss exceeds `factor` times the baseline's."""

    window: int = 1000
    factor: float = 1.5
    batches: tuple[Batch, ...] = ()

    def update(self, batch: Batch) -> DivergenceWatch:
        """A new watch with one more batch; see :func:`streaming.online.metrics.newest`."""
        return replace(self, batches=newest(self.batches, batch, self.window))

    def verdict(self, weights: Weights | None = None) -> Divergence:
        """Diverged when a weight or a loss is not finite, or when the window is full and its loss too high."""
        if weights is not None and not weights.finite:
            return Divergence("diverged", "a weight is not finite")
        n = sum(b.n for b in self.batches)
        mine, base = sum(b.loss for b in self.batches), sum(b.baseline for b in self.batches)
        if not np.isfinite(mine):
            return Divergence("diverged", "the loss is not finite")
        compared = f"loss {mine / max(n, 1):.6g} a row, baseline {base / max(n, 1):.6g}, over the last {n} labels"
        if n >= max(ENOUGH, min(self.window, 10 * ENOUGH)) and mine > self.factor * base:
            return Divergence("diverged", f"{compared}: more than {self.factor:g} times the baseline")
        return Divergence("ok", compared)
