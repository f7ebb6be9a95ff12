"""The learned model as plain numbers in raw feature space: what a weights file carries and any language can evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WeightsKind = Literal["linear", "logistic", "softmax", "poisson", "nearest"]

#: exp(700) is the last power of e that a double holds comfortably (limit 709.78).
LARGEST_EXPONENT: Final = 700.0

#: dimensions of (coefficients, intercept) by kind
_SHAPES: Final[dict[str, tuple[int, int | None]]] = {
    "linear": (1, 0),
    "logistic": (1, 0),
    "poisson": (1, 0),
    "softmax": (2, 1),
    "nearest": (2, None),
}


@dataclass(frozen=True)
class Scored:
    """`prediction` (n,): value, class number or cluster number. `probability` (n, k) for classifiers, None otherwise."""

    prediction: Array
    probability: Array | None


@dataclass(frozen=True, eq=False)
class Weights:
    """A learned function of the raw features; evaluates itself, and is the reference for every other evaluation.

    linear    prediction = x·w + b
    poisson   prediction = exp(x·w + b)
    logistic  probability = [1 - p, p], p = 1 / (1 + exp(-(x·w + b))); prediction = 1.0 if p > 0.5 else 0.0
    softmax   probability_j = exp(m_j) / Σ exp(m_i), m = W x + b; prediction = the first j with the greatest m_j
    nearest   prediction = the first centre j with the least Σ_i (x_i - c_ji)²

    `coefficients` is (d,), or (k, d) for softmax (W) and nearest (the centres). `intercept` is a 0-d array, (k,) for
    softmax, None for nearest. The exponent of a Poisson rate is limited to ±700, so that it does not overflow.
    """

    kind: WeightsKind
    coefficients: Array
    intercept: Array | None

    def __post_init__(self) -> None:
        """ValueError on a kind or a shape that does not exist. Keeps private, read-only copies of the arrays."""
        if self.kind not in get_args(WeightsKind):
            raise ValueError(f"weights: kind: got {self.kind!r}, expected one of {', '.join(get_args(WeightsKind))}")
        object.__setattr__(self, "coefficients", _frozen(self.coefficients))
        object.__setattr__(self, "intercept", None if self.intercept is None else _frozen(self.intercept))
        shapes = (self.coefficients.ndim, None if self.intercept is None else self.intercept.ndim)
        rows = self.coefficients.shape[:1]
        if shapes != _SHAPES[self.kind] or (self.kind == "softmax" and self.intercept is not None and self.intercept.shape != rows):
            raise ValueError(
                f"weights: {self.kind}: coefficients of shape {self.coefficients.shape} do not go with intercept {self.intercept!r}"
            )

    @property
    def features(self) -> int:
        """d, the number of features."""
        return int(self.coefficients.shape[-1])

    @property
    def finite(self) -> bool:
        """Whether every number is finite: others must never be published."""
        return bool(np.isfinite(self.coefficients).all() and (self.intercept is None or np.isfinite(self.intercept).all()))

    def margin(self, X: Array) -> Array:
        """x·w + b: (n,), or (n, k) for softmax."""
        if self.intercept is None:
            raise ValueError("weights: nearest: centres have no margin; ask for predict")
        return np.asarray(X @ self.coefficients.T + self.intercept)

    def predict(self, X: Array) -> Scored:
        """Score rows X (n, d)."""
        match self.kind:
            case "linear":
                return Scored(self.margin(X), None)
            case "poisson":
                return Scored(np.exp(np.clip(self.margin(X), -LARGEST_EXPONENT, LARGEST_EXPONENT)), None)
            case "logistic":
                p = sigmoid(self.margin(X))
                return Scored((p > 0.5).astype(float), np.column_stack([1.0 - p, p]))
            case "softmax":
                margin = self.margin(X)
                return Scored(margin.argmax(axis=1).astype(float), softmax(margin))
            case "nearest":
                return Scored(nearest(X, self.coefficients).astype(float), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON. Python writes the shortest text that reads back as the same double, so the trip is exact."""
        return {
            "kind": self.kind,
            "coefficients": self.coefficients.tolist(),
            "intercept": None if self.intercept is None else self.intercept.tolist(),
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Weights:
        """The inverse of :meth:`to_json`. ValueError on a missing key, an unknown kind or a wrong shape."""
        missing = {"kind", "coefficients", "intercept"} - set(tree)
        if missing:
            raise ValueError(f"weights: missing {', '.join(sorted(missing))}; got {', '.join(sorted(tree)) or 'nothing'}")
        intercept = tree["intercept"]
        return cls(
            tree["kind"], np.asarray(tree["coefficients"], dtype=float), None if intercept is None else np.asarray(intercept, dtype=float)
        )


def sigmoid(margin: Array) -> Array:
    """1 / (1 + exp(-m)); exp may overflow to infinity, which gives the right limit 0."""
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-margin)))


def softmax(margin: Array) -> Array:
    """exp(m_j) / Σ exp(m_i) along the last axis, shifted by the greatest m so that nothing overflows."""
    e = np.exp(margin - margin.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def nearest(X: Array, centres: Array) -> NDArray[np.intp]:
    """(n,) index of the centre (k, d) with the least squared distance; the first of equals. Exact differences: no |x|² trick."""
    return np.asarray(np.stack([((X - c) ** 2).sum(axis=1) for c in centres], axis=1).argmin(axis=1))


def _frozen(values: Array) -> Array:
    array = np.array(values, dtype=float)
    array.setflags(write=False)
    return array
