"""Recursive least squares with an L2 prior: exact, whatever the partitions; one solve per update.

With μ, C the mean and the co-moments Σ (z - μ)(z - μ)' of z = [x, e], e = y minus the warm start, σ their deviations,
λ the prior's weight in rows:

    w_std = (C_xx / σ_x σ_x' + λ I)⁻¹ C_xe / (σ_x σ_e)          w = w_std σ_e / σ_x          b = μ_e - w·μ_x

which minimises Σ (e - w·x - b)² + λ Σ (σ_j w_j)²: ridge regression on standardised features with a free intercept
(Hoerl, Kennard 1970). Two sets of rows are joined exactly (Chan, Golub, LeVeque 1979, with products of two columns):
C = C_a + C_b + δ δ' n_a n_b / n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from streaming.online import moments
from streaming.online.base import Array, Labels
from streaming.online.weights import Scored, Weights


@dataclass(frozen=True, eq=False)
class Comoments:
    """`n` rows (decayed) of z = [x, e]: `mean` (d+1,) and `products` (d+1, d+1) of deviations. Additive."""

    n: float
    mean: Array
    products: Array
    rows: int


@dataclass(frozen=True, eq=False)
class RidgeState:
    """The co-moments of all rows and the warm start (d+1,), intercept last."""

    seen: Comoments
    start: Array
    warm: int


@dataclass(frozen=True)
class Ridge:
    """Linear regression by recursive least squares; costs O(d²) per row and O(d³) per batch.

    `l2`: the prior's weight in rows: 1.0 counts as much as one row. `half_life`: rows after which an observation counts
    half (rows of one batch are of one age). `fit_intercept` False forces the line through the warm start at x = 0.
    """

    l2: float = 1.0
    half_life: float | None = None
    fit_intercept: bool = True

    state_type: ClassVar[type[RidgeState]] = RidgeState
    summary_type: ClassVar[type[Comoments]] = Comoments
    labels: ClassVar[Labels] = "number"
    classes: ClassVar[int] = 0
    sequential: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """ValueError on a parameter outside its range."""
        if not self.l2 > 0 or (self.half_life is not None and not self.half_life >= 1):
            raise ValueError(f"ridge: l2 must be above 0 and half_life 1 row or more; got {self.l2}, {self.half_life}")

    @property
    def chunk(self) -> int | None:
        """Any cut gives the same, unless old batches fade."""
        return 1 if self.half_life is None else None

    def init(self, d: int) -> RidgeState:
        """No rows: predicts 0."""
        return RidgeState(_empty(d + 1), np.zeros(d + 1), 0)

    def warm(self, weights: Weights) -> RidgeState:
        """The prior is centred on `weights` instead of zero."""
        if weights.kind != "linear" or weights.intercept is None:
            raise ValueError(f"ridge: expected linear weights; got {weights.kind} weights")
        return RidgeState(_empty(weights.features + 1), np.append(weights.coefficients, weights.intercept), 1)

    def predict(self, state: RidgeState, X: Array) -> Array:
        """(n,) values."""
        return self.score(state, X).prediction

    def score(self, state: RidgeState, X: Array) -> Scored:
        """Values, no probability."""
        return self._solve(state).predict(X)

    def summarize(self, state: RidgeState, X: Array, y: Array) -> Comoments:
        """Co-moments of the rows; row order does not matter."""
        if len(X) == 0:
            return _empty(X.shape[1] + 1)
        z = np.column_stack([X, y - (X @ state.start[:-1] + state.start[-1])])
        mean = z.mean(axis=0)
        z = z - mean
        return Comoments(float(len(X)), mean, z.T @ z, len(X))

    def merge(self, left: Comoments, right: Comoments) -> Comoments:
        """Both sets of rows."""
        n = left.n + right.n
        if n == 0.0:
            return left
        delta = right.mean - left.mean
        products = left.products + right.products + np.outer(delta, delta) * (left.n * right.n / n)
        return Comoments(n, left.mean + delta * (right.n / n), products, left.rows + right.rows)

    def update(self, state: RidgeState, summary: Comoments) -> RidgeState:
        """Fade what was seen by the number of new rows, then add them."""
        if summary.rows == 0:
            return state
        fade = 1.0 if self.half_life is None else 0.5 ** (summary.rows / self.half_life)
        seen = replace(state.seen, n=state.seen.n * fade, products=state.seen.products * fade)
        return replace(state, seen=self.merge(seen, summary))

    def weights(self, state: RidgeState) -> Weights | None:
        """kind linear."""
        return self._solve(state) if state.seen.rows or state.warm else None

    def _solve(self, state: RidgeState) -> Weights:
        seen, d = state.seen, len(state.start) - 1
        if seen.rows == 0:
            return Weights("linear", state.start[:-1], state.start[-1])
        mean, products = seen.mean, seen.products
        deviation = moments.spreads(seen.n, mean, np.diagonal(products))
        if not self.fit_intercept:
            products, mean = products + seen.n * np.outer(mean, mean), np.zeros(d + 1)
        scaled = products / np.outer(deviation, deviation)
        factor = np.linalg.cholesky(scaled[:d, :d] + self.l2 * np.eye(d))
        w = np.linalg.solve(factor.T, np.linalg.solve(factor, scaled[:d, d])) * deviation[d] / deviation[:d]
        return Weights("linear", w + state.start[:d], mean[d] - w @ mean[:d] + state.start[d])


def _empty(m: int) -> Comoments:
    return Comoments(0.0, np.zeros(m), np.zeros((m, m)), 0)
