"""The loss side of the adaptive learners: residuals, curvatures and the frame in which features and labels are of order one.

With margin m, the model of one output and the derivative of its loss by m (residual) and by m twice (curvature):

    linear     value m            loss (m - t)² / 2              residual m - t          curvature 1
    logistic   p = 1/(1+e^-m)     loss -t ln p - (1-t) ln(1-p)   residual p - t          curvature p (1 - p)
    softmax    p_j = e^m_j / Σ    loss -ln p_t                   residual p_j - [j = t]  curvature p_j (1 - p_j)
    poisson    rate e^m           loss e^m - t m                 residual e^m - t        curvature e^m

(McCullagh, Nelder: Generalized Linear Models, 1989.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from streaming.online.base import Array, Labels
from streaming.online.weights import sigmoid, softmax

Family = Literal["linear", "logistic", "softmax", "poisson"]

LABELS: Final[dict[Family, Labels]] = {"linear": "number", "logistic": "binary", "softmax": "classes", "poisson": "count"}

#: A Poisson rate is at most e^30 = 1e13 times the mean label while learning; the residual is cut far below anyway.
LARGEST_LOG_RATE: Final = 30.0


def respond(family: Family, margin: Array) -> Array:
    """The model's value at each margin (n, K)."""
    match family:
        case "linear":
            return margin
        case "logistic":
            return sigmoid(margin)
        case "softmax":
            return softmax(margin)
        case "poisson":
            return np.asarray(np.exp(np.minimum(margin, LARGEST_LOG_RATE)))


def curvature(family: Family, response: Array) -> Array:
    """The second derivative of the loss by the margin, from the response (n, K)."""
    match family:
        case "linear":
            return np.ones_like(response)
        case "poisson":
            return response
        case _:
            return response * (1.0 - response)


@dataclass(frozen=True, eq=False)
class Frame:
    """Features as z = (x - centre) / scale, labels as t = (y - label_centre) / label_scale; all of order one.

    Arrays are (d,) and scalars when the frame is that of a state, (n, d) and (n,) when it moves with every row.
    """

    centre: Array
    scale: Array
    label_centre: Array
    label_scale: Array


def frame_of(family: Family, mean: Array, deviation: Array, d: int) -> Frame:
    """The frame given means and deviations (…, m) of the framed columns: the d features unless they are taken as they
    are, then the label for linear and poisson."""
    one, zero = np.ones(mean.shape[:-1]), np.zeros(mean.shape[:-1])
    standardized = mean.shape[-1] == d + (family in ("linear", "poisson"))
    centre, scale = (mean[..., :d], deviation[..., :d]) if standardized else (np.zeros(d), np.ones(d))
    match family:
        case "linear":
            return Frame(centre, scale, mean[..., -1], deviation[..., -1])
        case "poisson":
            # A rate has no centre; dividing by the mean label makes rate and residual of order one.
            average = mean[..., -1]
            return Frame(centre, scale, zero, np.where(average > 0.0, average, 1.0))
        case _:
            return Frame(centre, scale, zero, one)


def targets(family: Family, y: Array, outputs: int) -> Array:
    """Labels as (n, K): one-hot for softmax."""
    return np.eye(outputs)[y.astype(int)] if family == "softmax" else y[:, None]
