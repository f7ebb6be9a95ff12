"""Linear, logistic, softmax and Poisson regression that need no tuning: the default online learners.

Features are standardised by their running mean and deviation, the labels of linear and Poisson regression too, so
that one learning rate fits every scale. A warm start is kept as a fixed function of the raw features, to which a
correction is learned: it is exact, and penalties pull towards the warm start instead of zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from streaming.online import moments
from streaming.online.adaptive import losses, raw_steps
from streaming.online.adaptive import steps as passes
from streaming.online.adaptive.combine import AdaptiveState, PartitionState, Parts, combine
from streaming.online.adaptive.losses import Family
from streaming.online.adaptive.steps import Fit, Steps
from streaming.online.base import Array, Labels
from streaming.online.moments import Moments
from streaming.online.weights import Scored, Weights


@dataclass(frozen=True)
class Adaptive:
    """A generalised linear model, learned row by row or in mini-batches.

    `optimizer`: "adagrad" costs O(d) per row; "newton" O(d²), and sees through correlated features. `mini_batch` rows
    per step: 1 makes the result independent of where batches are cut. `half_life`: rows after which an observation
    counts half; None never forgets. `clip`: standard deviations beyond which a value is cut for learning. `l1`, `l2`:
    penalties per row on standardised weights (adagrad); `prior`: their prior precision (newton). `standardize` False
    takes features as they are, for features that are of order one already; labels are framed all the same.
    """

    family: Family
    k: int = 1
    optimizer: Literal["adagrad", "newton"] = "adagrad"
    learning_rate: float = 0.1
    mini_batch: int = 1
    l1: float = 0.0
    l2: float = 0.0
    prior: float = 1.0
    half_life: float | None = None
    clip: float = 20.0
    standardize: bool = True

    state_type: ClassVar[type[AdaptiveState]] = AdaptiveState
    summary_type: ClassVar[type[Parts]] = Parts
    sequential: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """ValueError on a parameter outside its range."""
        if self.family not in losses.LABELS or self.optimizer not in ("adagrad", "newton"):
            raise ValueError(
                f"expected a family of {', '.join(losses.LABELS)} and optimizer adagrad or newton; got {self.family!r}, {self.optimizer!r}"
            )
        if (self.k < 2) if self.family == "softmax" else (self.k != 1):
            raise ValueError(f"{self.family}: k is the number of classes, 2 or more, for softmax and 1 otherwise; got {self.k}")
        if not (self.learning_rate > 0 and self.mini_batch >= 1 and self.prior > 0 and self.clip >= 1 and self.l1 >= 0 and self.l2 >= 0):
            raise ValueError(
                "learning_rate and prior must be above 0, mini_batch and clip 1 or more, l1 and l2 0 or more;"
                f" got {self.learning_rate}, {self.prior}, {self.mini_batch}, {self.clip}, {self.l1}, {self.l2}"
            )
        if self.half_life is not None and not self.half_life >= 1:
            raise ValueError(f"half_life must be 1 row or more; got {self.half_life}")
        if self.optimizer == "newton" and (self.l1 or self.l2):
            raise ValueError("l1 and l2 belong to optimizer adagrad; newton is regularised by `prior`")

    @property
    def labels(self) -> Labels:
        """By family."""
        return losses.LABELS[self.family]

    @property
    def classes(self) -> int:
        """k for softmax, 2 for logistic, else 0."""
        return self.k if self.family == "softmax" else 2 if self.family == "logistic" else 0

    @property
    def chunk(self) -> int | None:
        """Steps never straddle a cut at a multiple of `mini_batch`."""
        return self.mini_batch

    @property
    def gamma(self) -> float:
        """What one row leaves of the weight of those before it."""
        return 1.0 if self.half_life is None else float(0.5 ** (1.0 / self.half_life))

    @property
    def steps(self) -> Steps:
        """The hyperparameters of the inner loops."""
        return Steps(self.family, self.gamma, self.learning_rate, self.l1, self.l2, self.clip, self.prior)

    def init(self, d: int) -> AdaptiveState:
        """All zero: predicts 0, a probability of 1/k or a rate of 1."""
        shape = (self.k, d + 1)
        if self.optimizer == "adagrad":
            curve = np.full(shape, passes.TINY)
        else:
            curve = np.broadcast_to(np.eye(d + 1) / self.prior, (self.k, d + 1, d + 1)).copy()
        framed = d * self.standardize + (self.family in ("linear", "poisson"))
        return AdaptiveState(moments.empty(framed), np.zeros(shape), curve, np.zeros(shape), 0, 0)

    def warm(self, weights: Weights) -> AdaptiveState:
        """Start from `weights` of the same kind; nothing is known of the features' scale yet."""
        outputs = len(weights.coefficients) if weights.coefficients.ndim == 2 else 1
        if weights.kind != self.family or weights.intercept is None or outputs != self.k:
            raise ValueError(
                f"expected {self.family} weights with {self.k} output(s); got {weights.kind} weights with coefficients of shape {weights.coefficients.shape}"
            )
        start = np.column_stack([weights.coefficients.reshape(self.k, -1), weights.intercept.reshape(self.k)])
        return replace(self.init(weights.features), start=start, warm=1)

    def predict(self, state: AdaptiveState, X: Array) -> Array:
        """(n,) probability, value or rate; (n, k) probabilities for softmax."""
        scored = self.score(state, X)
        if scored.probability is None:
            return scored.prediction
        return scored.probability if self.family == "softmax" else scored.probability[:, 1]

    def score(self, state: AdaptiveState, X: Array) -> Scored:
        """By the raw weights, cold or not."""
        return self._raw(state).predict(X)

    def summarize(self, state: AdaptiveState, X: Array, y: Array) -> Parts:
        """Run through the rows from `state` on."""
        if len(X) == 0:
            return Parts(())
        learn = self._learn_rows if self.mini_batch == 1 else self._learn_batches
        return Parts((PartitionState(learn(state, X, y), len(X)),))

    def merge(self, left: Parts, right: Parts) -> Parts:
        """Left's partitions, then right's."""
        return Parts(left.parts + right.parts)

    def update(self, state: AdaptiveState, summary: Parts) -> AdaptiveState:
        """The one partition's end state as it is; several are combined by :func:`combine`."""
        if not summary.parts:
            return state
        if len(summary.parts) == 1:
            return summary.parts[0].state
        return combine(state, summary.parts, self.gamma)

    def weights(self, state: AdaptiveState) -> Weights | None:
        """In raw feature space: w_raw = s w / σ, b_raw = c + s b - Σ w_raw μ, plus the warm start."""
        return self._raw(state) if state.rows or state.warm else None

    def _raw(self, state: AdaptiveState) -> Weights:
        d = state.w.shape[1] - 1
        frame = losses.frame_of(self.family, state.moments.mean, moments.spread(state.moments), d)
        factor = frame.label_scale if self.family == "linear" else np.array(1.0)
        coefficients = factor * state.w[:, :d] / frame.scale
        intercept = factor * state.w[:, d] + frame.label_centre - coefficients @ frame.centre + state.start[:, d]
        if self.family == "poisson" and not state.warm:
            intercept = intercept + np.log(frame.label_scale)
        coefficients = coefficients + state.start[:, :d]
        if self.family == "softmax":
            return Weights("softmax", coefficients, intercept)
        return Weights(self.family, coefficients[0], intercept[0])

    def _learn_rows(self, state: AdaptiveState, X: Array, y: Array) -> AdaptiveState:
        """A step per row, each in the frame of the rows up to and including itself."""
        d = X.shape[1]
        path = moments.course(state.moments, self._framed(state, X, y), gamma=self.gamma, cut=self.clip)
        frame = losses.frame_of(self.family, path.means, path.deviations, d)
        features = path.values[:, :d] if self.standardize else X
        Z = np.column_stack([(features - frame.centre) / frame.scale, np.ones(len(X))])
        offset, t = self._offset_and_target(state, X, y, path.values, frame)
        run = passes.adagrad_rows if self.optimizer == "adagrad" else passes.newton_rows
        fit = run(self.steps, Fit(state.w, state.curve), Z, offset, t)
        return replace(state, moments=path.last, w=fit.w, curve=fit.curve, rows=state.rows + len(X))

    def _learn_batches(self, state: AdaptiveState, X: Array, y: Array) -> AdaptiveState:
        """A step per mini-batch, each in the frame of the rows up to and including it."""
        now, fit, steps = state.moments, Fit(state.w, state.curve), self.steps
        for i in range(0, len(X), self.mini_batch):
            rows = slice(i, i + self.mini_batch)
            now, fit = self._learn_batch(state, now, fit, steps, X[rows], y[rows])
        return replace(state, moments=now, w=fit.w, curve=fit.curve, rows=state.rows + len(X))

    def _learn_batch(self, state: AdaptiveState, now: Moments, fit: Fit, steps: Steps, X: Array, y: Array) -> tuple[Moments, Fit]:
        d = X.shape[1]
        if not len(now.mean) and self.optimizer == "adagrad":  # nothing to frame
            offset, t = self._started(state, X), losses.targets(self.family, y, self.k)
            return Moments(steps.gamma ** len(X) * now.n + len(X), now.mean, now.m2), raw_steps.raw_batch(steps, fit, X, offset, t)
        sums = raw_steps.column_sums(now, self._framed(state, X, y), self.clip)
        now = moments.merge(moments.fade(now, steps.gamma ** len(X)), sums.moments)
        frame = losses.frame_of(self.family, now.mean, moments.spread(now), d)
        offset, t = self._offset_and_target(state, X, y, sums.values, frame)
        if self.optimizer == "adagrad" and not self.standardize:
            return now, raw_steps.raw_batch(steps, fit, X, offset, t)
        if self.optimizer == "adagrad" and sums.plain:
            return now, raw_steps.adagrad_batch(steps, fit, sums, frame, offset, t)
        features = sums.values[:, :d] if self.standardize else X
        Z = np.column_stack([(features - frame.centre) / frame.scale, np.ones(len(X))])
        run = passes.adagrad_batch if self.optimizer == "adagrad" else passes.newton_batch
        return now, run(steps, fit, Z, offset, t)

    def _framed(self, state: AdaptiveState, X: Array, y: Array) -> Array:
        """The columns whose moments are followed: features, and the label (for linear: what the warm start leaves of it)."""
        features = X if self.standardize else X[:, :0]
        match self.family:
            case "linear":
                return np.column_stack([features, y - self._started(state, X)[:, 0]])
            case "poisson":
                return np.column_stack([features, y])
            case _:
                return features

    def _started(self, state: AdaptiveState, X: Array) -> Array:
        return X @ state.start[:, :-1].T + state.start[:, -1] if state.warm else np.zeros((len(X), self.k))

    def _offset_and_target(self, state: AdaptiveState, X: Array, y: Array, values: Array, frame: losses.Frame) -> tuple[Array, Array]:
        """What the margin starts from, and the target in the frame, both (n, K)."""
        match self.family:
            case "linear":
                return np.zeros((len(X), 1)), ((values[:, -1] - frame.label_centre) / frame.label_scale)[:, None]
            case "poisson":
                offset = (
                    self._started(state, X) - np.log(np.broadcast_to(frame.label_scale, len(X)))[:, None]
                    if state.warm
                    else np.zeros((len(X), 1))
                )
                return offset, (values[:, -1] / frame.label_scale)[:, None]
            case _:
                return self._started(state, X), losses.targets(self.family, y, self.k)
