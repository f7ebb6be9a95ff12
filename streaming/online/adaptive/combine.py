"""The state of an adaptive learner, and how partitions that ran side by side become one state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streaming.online import moments
from streaming.online.base import Array
from streaming.online.moments import Moments


@dataclass(frozen=True, eq=False)
class AdaptiveState:
    """What is remembered between batches, K outputs, d features.

    `moments` of the features, and of the label in a last column where the family frames it · `w` (K, d+1) in the
    frame of the moments, intercept last · `curve` (K, d+1) or (K, d+1, d+1), see :mod:`streaming.online.adaptive.steps` ·
    `start` (K, d+1) the warm start in raw feature space · `rows` learned · `warm` 1 after a warm start.
    """

    moments: Moments
    w: Array
    curve: Array
    start: Array
    rows: int
    warm: int


@dataclass(frozen=True, eq=False)
class PartitionState:
    """The state at the end of one partition, and how many rows that partition had."""

    state: AdaptiveState
    n: int


@dataclass(frozen=True, eq=False)
class Parts:
    """The partitions of one batch that had rows, in order. Additive by concatenation: a state is small."""

    parts: tuple[PartitionState, ...]


def combine(state: AdaptiveState, parts: tuple[PartitionState, ...], gamma: float) -> AdaptiveState:
    """Partitions that ran side by side from one state, as one state.

    Moments are those of all rows (Chan). AdaGrad: weights are averaged by rows (Zinkevich et al. 2010), and what each
    partition added to G is summed, so that later steps are as small as after that many rows. Newton: the posteriors
    N(w_p, P_p) are multiplied and the shared prior is divided out, A = Σ A_p - (P-1) A_0 with A = P⁻¹ and w = A⁻¹
    (Σ A_p w_p - (P-1) A_0 w_0): for the linear family that is what one partition would have given, up to the frame.
    """
    n = sum(p.n for p in parts)
    now = moments.fade(state.moments, gamma**n)
    for p in parts:
        now = moments.merge(now, moments.without(p.state.moments, moments.fade(state.moments, gamma**p.n)))
    w = np.asarray(sum(p.state.w * (p.n / n) for p in parts))
    if state.curve.ndim == 2:
        added = sum(np.maximum(p.state.curve - gamma**p.n * state.curve, 0.0) for p in parts)
        curve = gamma**n * state.curve + added
    else:
        w, curve = _multiply_posteriors(gamma, state, parts, w)
    return replace(state, moments=now, w=w, curve=curve, rows=state.rows + n)


def _multiply_posteriors(gamma: float, state: AdaptiveState, parts: tuple[PartitionState, ...], average: Array) -> tuple[Array, Array]:
    n = sum(p.n for p in parts)
    A0 = np.linalg.inv(state.curve)
    A, b = gamma**n * A0, gamma**n * (A0 @ state.w[:, :, None])
    for p in parts:
        Ap = np.linalg.inv(p.state.curve)
        A = A + Ap - gamma**p.n * A0
        b = b + Ap @ p.state.w[:, :, None] - gamma**p.n * (A0 @ state.w[:, :, None])
    A = (A + A.transpose(0, 2, 1)) / 2.0
    try:
        np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        # Rounding made the difference indefinite: the most certain partition's curvature and the average are safe.
        best = max(parts, key=lambda p: p.n).state
        return average, best.curve
    return np.asarray(np.linalg.solve(A, b)[:, :, 0]), np.asarray(np.linalg.inv(A))
