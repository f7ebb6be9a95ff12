"""Streaming k-means with forgetting, as Spark's `StreamingKMeans` computes it.

Source: `StreamingKMeans.scala` of Apache Spark 4 (its guide prints another formula; this is the code's). Per batch, with
m_j points and coordinate sums S_j in cluster j, N = Σ m_j, and the decay a:

    d   = a               time_unit "batches"
        = a ** N          time_unit "points"
    n_j = d n_j           for all clusters
    where m_j > 0:  n_j += m_j;  lam = m_j / max(n_j, 1e-16);  c_j = (1 - lam) c_j + lam S_j / m_j
    once, if min(n) < 1e-8 max(n):  both weights = (max + min) / 2, both centres = largest ± split · max(|c|, 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from streaming.online.base import Array, Labels
from streaming.online.weights import Scored, Weights, nearest

#: A cluster lighter than this share of the heaviest is dying (MLlib's constant).
DYING: Final = 1e-8
#: How far the two halves of a split cluster stand apart, relative. MLlib's 1e-14 is below the rounding of most squared
#: distances, so its twins can stay together for ever; 1e-6 separates them at the next batch and moves nothing visibly.
SPLIT: Final = {"mllib": 1e-14, None: 1e-6}


@dataclass(frozen=True, eq=False)
class KMeansState:
    """`centres` (k, d), their `mass` (k,) of decayed points, and how many points were seen."""

    centres: Array
    mass: Array
    rows: int
    warm: int


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Points per cluster (k,) and their coordinate sums (k, d). Additive."""

    counts: Array
    sums: Array


@dataclass(frozen=True)
class KMeans:
    """Streaming k-means; labels are ignored.

    `decay`: per batch or per point (`time_unit`), 0 keeps only the newest batch, 1 keeps all. `half_life` in the same
    unit sets decay = exp(ln 0.5 / half_life). An empty batch changes nothing; with `compat="mllib"` it decays the mass
    in "batches" mode, as Spark does, so that an idle topic makes the model forget.
    Centres start at `initial_centers` with mass `initial_weights` (default 0 each), or at N(0, 1) per coordinate with `seed`.
    """

    k: int = 2
    decay: float = 1.0
    half_life: float | None = None
    time_unit: Literal["batches", "points"] = "batches"
    initial_centers: tuple[tuple[float, ...], ...] | None = None
    initial_weights: tuple[float, ...] | None = None
    seed: int = 0
    compat: Literal["mllib"] | None = None

    state_type: ClassVar[type[KMeansState]] = KMeansState
    summary_type: ClassVar[type[ClusterSums]] = ClusterSums
    labels: ClassVar[Labels] = "none"
    classes: ClassVar[int] = 0
    sequential: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True
    chunk: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        """ValueError on parameters that do not fit together."""
        if (
            self.k < 1
            or self.decay < 0
            or (self.half_life is not None and not self.half_life > 0)
            or self.time_unit not in ("batches", "points")
        ):
            raise ValueError(
                "kmeans: k must be 1 or more, decay 0 or more, half_life above 0, time_unit batches or points;"
                f" got {self.k}, {self.decay}, {self.half_life}, {self.time_unit!r}"
            )
        if self.initial_centers is not None and len(self.initial_centers) != self.k:
            raise ValueError(f"kmeans: initial_centers has {len(self.initial_centers)} centres, but k is {self.k}")
        if self.initial_weights is not None and len(self.initial_weights) != self.k:
            raise ValueError(f"kmeans: initial_weights has {len(self.initial_weights)} numbers, but k is {self.k}")

    def init(self, d: int) -> KMeansState:
        """The initial centres."""
        if self.initial_centers is None:
            centres = np.random.RandomState(self.seed).standard_normal((self.k, d))
        else:
            centres = np.array(self.initial_centers, dtype=float)
        if centres.shape != (self.k, d):
            raise ValueError(f"kmeans: initial_centers has shape {centres.shape}, expected {(self.k, d)}: k centres of {d} features")
        mass = np.zeros(self.k) if self.initial_weights is None else np.array(self.initial_weights, dtype=float)
        return KMeansState(centres, mass, 0, int(self.initial_centers is not None))

    def warm(self, weights: Weights) -> KMeansState:
        """Start from given centres, each with its `initial_weights` or the mass of one point."""
        if weights.kind != "nearest" or len(weights.coefficients) != self.k:
            raise ValueError(f"kmeans: expected {self.k} centres; got {weights.kind} weights of shape {weights.coefficients.shape}")
        mass = np.ones(self.k) if self.initial_weights is None else np.array(self.initial_weights, dtype=float)
        return KMeansState(np.array(weights.coefficients), mass, 0, 1)

    def predict(self, state: KMeansState, X: Array) -> Array:
        """(n,) number of the nearest centre."""
        return nearest(X, state.centres).astype(float)

    def score(self, state: KMeansState, X: Array) -> Scored:
        """Cluster numbers, no probability."""
        return Scored(self.predict(state, X), None)

    def summarize(self, state: KMeansState, X: Array, y: Array) -> ClusterSums:
        """Counts and sums by nearest centre; `y` is ignored."""
        member = np.eye(self.k)[nearest(X, state.centres)]
        return ClusterSums(member.sum(axis=0), member.T @ X)

    def merge(self, left: ClusterSums, right: ClusterSums) -> ClusterSums:
        """Their sum."""
        return ClusterSums(left.counts + right.counts, left.sums + right.sums)

    def update(self, state: KMeansState, summary: ClusterSums) -> KMeansState:
        """Decay, move the centres, then replace at most one dying cluster."""
        m, N = summary.counts, float(summary.counts.sum())
        if N == 0 and self.compat is None:
            return state
        a = self.decay if self.half_life is None else math.exp(math.log(0.5) / self.half_life)
        mass = state.mass * (a if self.time_unit == "batches" else a**N) + m
        touched = m > 0
        lam = np.where(touched, m / np.maximum(mass, 1e-16), 0.0)[:, None]
        mean = summary.sums / np.maximum(m, 1.0)[:, None]
        centres = np.where(touched[:, None], (1.0 - lam) * state.centres + lam * mean, state.centres)
        return KMeansState(*_replace_dying(centres, mass, SPLIT[self.compat]), state.rows + int(N), state.warm)

    def weights(self, state: KMeansState) -> Weights | None:
        """kind nearest."""
        return Weights("nearest", state.centres, None) if state.rows or state.warm else None


def _replace_dying(centres: Array, mass: Array, split: float) -> tuple[Array, Array]:
    largest, smallest = int(mass.argmax()), int(mass.argmin())
    if not mass[smallest] < DYING * mass[largest]:
        return centres, mass
    centres, mass = centres.copy(), mass.copy()
    x = centres[largest].copy()
    p = split * np.maximum(np.abs(x), 1.0)
    centres[largest], centres[smallest] = x + p, x - p
    mass[[largest, smallest]] = (mass[largest] + mass[smallest]) / 2.0
    return centres, mass
