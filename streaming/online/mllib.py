"""`compat: mllib`: linear and logistic regression that give the numbers of Spark's `StreamingLinearRegressionWithSGD`
and `StreamingLogisticRegressionWithSGD`, without their one Spark job per iteration.

Source: `GradientDescent.scala`, `Updater.scala`, `Gradient.scala` of Apache Spark 4. For every non-empty batch of n rows,
starting from the previous batch's weights, for i = 1 .. num_iterations (i restarts in every batch):

    g    = (1/n) Σ grad(w; x, y)        linear: (w·x - y) x        logistic: (1/(1+exp(-w·x)) - y) x
    eta  = step_size / sqrt(i)
    w    = w - eta g                    linear (no regularisation: MLlib ignores it there)
    w    = (1 - eta reg_param) w - eta g          logistic
    stop if i >= 2 and |w_i - w_{i-1}|₂ < convergence_tol · max(|w_i|₂, 1)

There is no intercept: append a column of ones. miniBatchFraction is always 1. An empty batch changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from streaming.online.base import Array, Labels
from streaming.online.weights import Scored, Weights, sigmoid


@dataclass(frozen=True, eq=False)
class MllibState:
    """`w` (d,) and how many rows it has seen."""

    w: Array
    rows: int
    warm: int


@dataclass(frozen=True, eq=False)
class Gram:
    """X'X (d, d), X'y (d,) and n: all that squared loss needs, so that the iterations need no data. Additive."""

    xx: Array
    xy: Array
    n: int


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows themselves: logistic loss has no smaller sufficient statistic. Additive by concatenation."""

    X: Array
    y: Array


@dataclass(frozen=True)
class MllibLinear:
    """`StreamingLinearRegressionWithSGD`, in one pass: rounding differs, nothing else."""

    step_size: float = 0.1
    num_iterations: int = 50
    convergence_tol: float = 0.001
    initial_weights: tuple[float, ...] | None = None

    state_type: ClassVar[type[MllibState]] = MllibState
    summary_type: ClassVar[type[Gram]] = Gram
    labels: ClassVar[Labels] = "number"
    classes: ClassVar[int] = 0
    sequential: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    chunk: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        """ValueError on a parameter outside its range."""
        _check(self.step_size, self.num_iterations, self.convergence_tol)

    def init(self, d: int) -> MllibState:
        """`initial_weights`, or zeros (MLlib itself insists on initial weights)."""
        return _initial(self.initial_weights, d)

    def warm(self, weights: Weights) -> MllibState:
        """Start from coefficients without an intercept."""
        return _warm(weights, "linear")

    def predict(self, state: MllibState, X: Array) -> Array:
        """(n,) values."""
        return np.asarray(X @ state.w)

    def score(self, state: MllibState, X: Array) -> Scored:
        """Values, no probability."""
        return Scored(self.predict(state, X), None)

    def summarize(self, state: MllibState, X: Array, y: Array) -> Gram:
        """Sufficient statistics of the rows; `state` is not needed."""
        return Gram(X.T @ X, X.T @ y, len(X))

    def merge(self, left: Gram, right: Gram) -> Gram:
        """Their sum."""
        return Gram(left.xx + right.xx, left.xy + right.xy, left.n + right.n)

    def update(self, state: MllibState, summary: Gram) -> MllibState:
        """All iterations on the sufficient statistics: g = (X'X w - X'y) / n."""
        if summary.n == 0:
            return state
        xx, xy = summary.xx / summary.n, summary.xy / summary.n
        w = _descend(state.w, lambda w: xx @ w - xy, step=self.step_size, iterations=self.num_iterations, reg=0.0, tol=self.convergence_tol)
        return MllibState(w, state.rows + summary.n, state.warm)

    def weights(self, state: MllibState) -> Weights | None:
        """kind linear, intercept 0."""
        return Weights("linear", state.w, np.array(0.0)) if state.rows or state.warm else None


@dataclass(frozen=True)
class MllibLogistic:
    """`StreamingLogisticRegressionWithSGD`: the rows of a batch go to the driver once, and all iterations run there.

    `max_rows` bounds what the driver must hold: 1,000,000 rows of 20 features are 168 MB.
    """

    step_size: float = 0.1
    num_iterations: int = 50
    reg_param: float = 0.0
    convergence_tol: float = 0.001
    initial_weights: tuple[float, ...] | None = None
    max_rows: int = 1_000_000

    state_type: ClassVar[type[MllibState]] = MllibState
    summary_type: ClassVar[type[Rows]] = Rows
    labels: ClassVar[Labels] = "binary"
    classes: ClassVar[int] = 2
    sequential: ClassVar[bool] = False
    scale_free: ClassVar[bool] = False
    chunk: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        """ValueError on a parameter outside its range."""
        _check(self.step_size, self.num_iterations, self.convergence_tol)
        if self.reg_param < 0 or self.max_rows < 1:
            raise ValueError(f"reg_param must be 0 or more and max_rows 1 or more; got {self.reg_param} and {self.max_rows}")

    def init(self, d: int) -> MllibState:
        """`initial_weights`, or zeros (MLlib itself insists on initial weights)."""
        return _initial(self.initial_weights, d)

    def warm(self, weights: Weights) -> MllibState:
        """Start from coefficients without an intercept."""
        return _warm(weights, "logistic")

    def predict(self, state: MllibState, X: Array) -> Array:
        """(n,) probability of class 1."""
        return sigmoid(X @ state.w)

    def score(self, state: MllibState, X: Array) -> Scored:
        """Class at the threshold 0.5, and both probabilities."""
        return Weights("logistic", state.w, np.array(0.0)).predict(X)

    def summarize(self, state: MllibState, X: Array, y: Array) -> Rows:
        """The rows. ValueError on a label other than 0 or 1, and on more than `max_rows` rows."""
        if not np.isin(y, (0.0, 1.0)).all():
            raise ValueError("logistic_regression: a label is neither 0 nor 1; filter the rows with valid_rows first")
        return self._bounded(Rows(np.array(X, dtype=float), np.array(y, dtype=float)))

    def merge(self, left: Rows, right: Rows) -> Rows:
        """Left's rows, then right's. ValueError on more than `max_rows` rows."""
        return self._bounded(Rows(np.concatenate([left.X, right.X]), np.concatenate([left.y, right.y])))

    def update(self, state: MllibState, summary: Rows) -> MllibState:
        """All iterations over the collected rows."""
        X, y, n = summary.X, summary.y, len(summary.X)
        if n == 0:
            return state
        w = _descend(
            state.w,
            lambda w: (sigmoid(X @ w) - y) @ X / n,
            step=self.step_size,
            iterations=self.num_iterations,
            reg=self.reg_param,
            tol=self.convergence_tol,
        )
        return MllibState(w, state.rows + n, state.warm)

    def weights(self, state: MllibState) -> Weights | None:
        """kind logistic, intercept 0."""
        return Weights("logistic", state.w, np.array(0.0)) if state.rows or state.warm else None

    def _bounded(self, rows: Rows) -> Rows:
        if len(rows.X) > self.max_rows:
            raise ValueError(
                f"logistic_regression compat mllib: a batch of {len(rows.X)} labelled rows, more than max_rows={self.max_rows};"
                " lower the number of rows per trigger, raise max_rows, or leave compat out"
            )
        return rows


def _descend(w: Array, gradient: Callable[[Array], Array], *, step: float, iterations: int, reg: float, tol: float) -> Array:
    """MLlib's loop; stops early when the weights are no longer finite, as more iterations cannot mend them."""
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(1, iterations + 1):
            eta = step / np.sqrt(i)
            after = (1.0 - eta * reg) * w - eta * gradient(w)
            converged = i > 1 and float(np.linalg.norm(after - w)) < tol * max(float(np.linalg.norm(after)), 1.0)
            w = after
            if converged:
                break
    return w


def _check(step_size: float, num_iterations: int, convergence_tol: float) -> None:
    if not step_size > 0 or num_iterations < 1 or not 0 <= convergence_tol <= 1:
        raise ValueError(
            f"step_size must be above 0, num_iterations 1 or more, convergence_tol from 0 to 1; got {step_size}, {num_iterations}, {convergence_tol}"
        )


def _initial(given: tuple[float, ...] | None, d: int) -> MllibState:
    if given is not None and len(given) != d:
        raise ValueError(f"initial_weights has {len(given)} numbers, but there are {d} features")
    return MllibState(np.zeros(d) if given is None else np.array(given, dtype=float), 0, int(given is not None))


def _warm(weights: Weights, kind: Literal["linear", "logistic"]) -> MllibState:
    if weights.kind != kind:
        raise ValueError(f"cannot start {kind} weights from {weights.kind} weights")
    if weights.intercept is not None and float(weights.intercept) != 0.0:
        raise ValueError("compat mllib has no intercept: append a column of ones to the features and its weight to the coefficients")
    return MllibState(np.array(weights.coefficients), 0, 1)
