"""The inner loops: sequences of steps over rows that are already standardised.

AdaGrad (Duchi, Hazan, Singer 2011, diagonal), with l1 as in composite mirror descent, g = residual · z + l2 w:

    G = γ G + g²;   w = w - η g / √G;   w = sign(w) max(|w| - η l1 / √G, 0)

Over a mini-batch of B rows, g is summed over the rows while w stands still and G gains the sum of the rows' squares, so
that B = 1 is the row by row rule and a larger B takes steps about as large as its B rows would have taken together.

Online Newton, an extended Kalman filter with P the inverse of the accumulated curvature s z z' (for the linear family
exactly recursive least squares; Haykin 2002, ch. 9; for logistic Fahrmeir 1992):

    P = P / γ;   P = P - P z z' P s / (1 + s z' P z);   w = w - P z residual       (P z after the update of P)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from streaming.online.adaptive.losses import LARGEST_LOG_RATE, Family, curvature, respond
from streaming.online.base import Array

#: No single mini-batch moves a standardised weight further than this; one row moves it by at most the learning rate.
LARGEST_STEP: Final = 1.0
#: Keeps 0/0 out of the first step; a gradient of 1e-100 squared is below it and moves nothing.
TINY: Final = 1e-200


@dataclass(frozen=True)
class Steps:
    """What a pass needs to know: γ per row, η, penalties, the limit of a residual, the prior precision."""

    family: Family
    gamma: float
    learning_rate: float
    l1: float
    l2: float
    clip: float
    prior: float


@dataclass(frozen=True, eq=False)
class Fit:
    """`w` (K, d+1), intercept last, and `curve`: G (K, d+1) for AdaGrad, P (K, d+1, d+1) for Newton."""

    w: Array
    curve: Array


def residuals(how: Steps, margin: Array, t: Array) -> tuple[Array, Array]:
    """(residual, response), both (n, K); the residual within ±clip."""
    response = respond(how.family, margin)
    residual = response - t
    if how.family in ("linear", "poisson"):  # those of the others are within ±1 by themselves
        residual = np.minimum(np.maximum(residual, -how.clip), how.clip)
    return residual, response


def adagrad_rows(how: Steps, fit: Fit, Z: Array, offset: Array, t: Array) -> Fit:
    """One AdaGrad step per row. Z (n, d+1) with a last column of ones, offset and t (n, K)."""
    if len(fit.w) == 1:
        w, G = _adagrad_single(how, fit.w[0].copy(), fit.curve[0].copy(), Z, offset[:, 0].tolist(), t[:, 0].tolist())
        return Fit(w[None], G[None])
    w, G = fit.w, fit.curve
    for z, o, target in zip(Z, offset, t, strict=True):
        r, _ = residuals(how, (w @ z + o)[None], target[None])
        w, G = adagrad_step(how, w, how.gamma * G, r[0][:, None] * z, (r[0] ** 2)[:, None] * (z * z), rows=1)
    return Fit(w, G)


def _adagrad_single(how: Steps, w: Array, G: Array, Z: Array, offset: list[float], t: list[float]) -> tuple[Array, Array]:
    """The same for one output, in place on private arrays: about 5 µs a row, of which most is NumPy's call overhead."""
    family, clip, eta, gamma = how.family, how.clip, how.learning_rate, how.gamma
    penalised = np.ones_like(w)
    penalised[-1] = 0.0
    g, root = np.empty_like(w), np.empty_like(w)
    multiply, add, sqrt, divide, subtract, exp = np.multiply, np.add, np.sqrt, np.divide, np.subtract, math.exp
    for i, z in enumerate(Z):
        m = float(z.dot(w)) + offset[i]
        if family == "logistic":
            r = 1.0 / (1.0 + exp(-m if m > -700.0 else 700.0)) - t[i]
        elif family == "linear":
            r = m - t[i]
        else:
            r = exp(min(m, LARGEST_LOG_RATE)) - t[i]
        multiply(z, clip if r > clip else -clip if r < -clip else r, out=g)
        if how.l2:
            g += how.l2 * penalised * w
        if gamma != 1.0:
            G *= gamma
            G += TINY
        multiply(g, g, out=root)
        add(G, root, out=G)
        sqrt(G, out=root)
        divide(g, root, out=g)
        multiply(g, eta, out=g)
        subtract(w, g, out=w)
        if how.l1:
            w[:] = np.sign(w) * np.maximum(np.abs(w) - eta * how.l1 * penalised / root, 0.0)
    return w, G


def adagrad_step(how: Steps, w: Array, G: Array, g: Array, squares: Array, *, rows: int) -> tuple[Array, Array]:
    """One AdaGrad step for gradient sums g and sums of squares (K, d+1); the intercept, last, is not penalised."""
    if how.l2:
        pull = how.l2 * w
        pull[:, -1] = 0.0
        # Exactly (g + l2 w)² for one row; the cross term is spread evenly over the rows of a mini-batch.
        squares = np.maximum(squares + 2.0 * g * pull + rows * pull * pull, 0.0)
        g = g + rows * pull
    G = G + squares
    root = np.sqrt(G + TINY)
    w = w - np.minimum(np.maximum(how.learning_rate * g / root, -LARGEST_STEP), LARGEST_STEP)
    if how.l1:
        shrink = how.learning_rate * how.l1 * rows / root
        shrink[:, -1] = 0.0
        w = np.sign(w) * np.maximum(np.abs(w) - shrink, 0.0)
    return w, G


def adagrad_batch(how: Steps, fit: Fit, Z: Array, offset: Array, t: Array) -> Fit:
    """One AdaGrad step for a whole mini-batch."""
    r, _ = residuals(how, Z @ fit.w.T + offset, t)
    return Fit(*adagrad_step(how, fit.w, how.gamma ** len(Z) * fit.curve, r.T @ Z, (r * r).T @ (Z * Z), rows=len(Z)))


def newton_rows(how: Steps, fit: Fit, Z: Array, offset: Array, t: Array) -> Fit:
    """One Newton step per row (rank-one update of P)."""
    w, P = fit.w.copy(), fit.curve.copy()
    for z, o, target in zip(Z, offset, t, strict=True):
        r, response = residuals(how, (w @ z + o)[None], target[None])
        s = curvature(how.family, response)[0]
        if how.gamma != 1.0:
            P = _limited(P / how.gamma, how.prior)
        Pz = P @ z
        gain = Pz / (1.0 + s * (Pz @ z))[:, None]
        w -= gain * r[0][:, None]
        P -= (s[:, None] * gain)[:, :, None] * Pz[:, None, :]
    return Fit(w, P)


def newton_batch(how: Steps, fit: Fit, Z: Array, offset: Array, t: Array) -> Fit:
    """One Newton step for a whole mini-batch: A = γ^B P⁻¹ + Z' S Z, w = w - A⁻¹ Z' r."""
    r, response = residuals(how, Z @ fit.w.T + offset, t)
    s = curvature(how.family, response)
    faded = fit.curve if how.gamma == 1.0 else _limited(fit.curve / how.gamma ** len(Z), how.prior)
    A = np.linalg.inv(faded) + np.stack([(Z * s[:, [k]]).T @ Z for k in range(len(fit.w))])
    P = np.linalg.inv(A)
    P = (P + P.transpose(0, 2, 1)) / 2.0
    step = (P @ (r.T @ Z)[:, :, None])[:, :, 0]
    if how.family != "linear":
        # From far away, Newton's step on these losses can overshoot: it is shortened, its direction kept.
        step = step / np.maximum(np.abs(step).max() / (3.0 * LARGEST_STEP), 1.0)
    return Fit(fit.w - step, P)


def _limited(P: Array, prior: float) -> Array:
    """P with no variance above the prior's 1/prior: forgetting without data must not wind P up (scaling keeps it positive)."""
    shrink = np.sqrt(np.minimum(1.0, 1.0 / (prior * np.diagonal(P, axis1=1, axis2=2))))
    return np.asarray(P * shrink[:, :, None] * shrink[:, None, :])
