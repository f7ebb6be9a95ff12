"""Every learner keeps the contract, and a broken one is caught by the check that names its fault."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from streaming.checks.learner import (
    LEARNER_CHECKS,
    check_any_scale,
    check_cuts_do_not_matter,
    check_learns,
    check_state_untouched,
    check_weights_agree,
    problem,
)
from streaming.online.adaptive.combine import AdaptiveState, Parts
from streaming.online.adaptive.learner import Adaptive
from streaming.online.algorithms import make
from streaming.online.base import Array
from streaming.online.kmeans import KMeans, KMeansState
from streaming.online.weights import Scored, Weights

LEARNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear_regression", {}),
    "linear_newton": ("linear_regression", {"optimizer": "newton"}),
    "linear_batches": ("linear_regression", {"mini_batch": 10}),
    "linear_newton_batches": ("linear_regression", {"optimizer": "newton", "mini_batch": 10}),
    "linear_fading": ("linear_regression", {"half_life": 300.0}),
    "linear_mllib": ("linear_regression", {"compat": "mllib"}),
    "logistic": ("logistic_regression", {}),
    "logistic_penalties": ("logistic_regression", {"l1": 1e-3, "l2": 1e-3}),
    "logistic_newton": ("logistic_regression", {"optimizer": "newton"}),
    "logistic_newton_fading": ("logistic_regression", {"optimizer": "newton", "half_life": 200.0}),
    "logistic_batches": ("logistic_regression", {"mini_batch": 20}),
    "logistic_mllib": ("logistic_regression", {"compat": "mllib", "step_size": 1.0}),
    "logistic_raw": ("logistic_regression", {"standardize": False}),
    "linear_raw_batches": ("linear_regression", {"standardize": False, "mini_batch": 10}),
    "softmax": ("softmax", {"k": 3}),
    "softmax_newton": ("softmax", {"k": 3, "optimizer": "newton"}),
    "softmax_batches": ("softmax", {"k": 3, "mini_batch": 10}),
    "poisson": ("poisson", {}),
    "poisson_newton": ("poisson", {"optimizer": "newton"}),
    "poisson_batches": ("poisson", {"mini_batch": 10}),
    "ridge": ("ridge", {}),
    "ridge_fading": ("ridge", {"half_life": 1000.0}),
    "kmeans": ("kmeans", {"k": 2}),
    "kmeans_mllib": ("kmeans", {"k": 2, "compat": "mllib"}),
    "river_logistic": ("river", {"model": "linear_model.LogisticRegression"}),
    "river_tree": ("river", {"model": "tree.HoeffdingTreeRegressor", "params": {"grace_period": 50}}),
}


@pytest.mark.parametrize("check", LEARNER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", LEARNERS)
def test_learner_keeps_the_contract(name: str, check: Any) -> None:
    learner = make(*LEARNERS[name])
    check(learner, problem(learner))


@dataclass(frozen=True)
class MutatesItsState(KMeans):
    """Broken: moves the centres in place, as Spark's own StreamingKMeans does."""

    def update(self, state: KMeansState, summary: Any) -> KMeansState:
        state.centres[:] = super().update(state, summary).centres
        return replace(super().update(state, summary), centres=state.centres)


@dataclass(frozen=True)
class ForgetsTheIntercept(Adaptive):
    """Broken: publishes weights without the intercept."""

    def weights(self, state: AdaptiveState) -> Weights | None:
        right = super().weights(state)
        return None if right is None else Weights(right.kind, right.coefficients, np.array(0.0))


@dataclass(frozen=True)
class LearnsTheWrongWay(Adaptive):
    """Broken: learns the opposite label."""

    def summarize(self, state: AdaptiveState, X: Array, y: Array) -> Parts:
        return super().summarize(state, X, 1.0 - y)


@dataclass(frozen=True)
class DependsOnTheBatch(Adaptive):
    """Broken: promises that cuts do not matter, but sees the rows of a batch in reverse."""

    def summarize(self, state: AdaptiveState, X: Array, y: Array) -> Parts:
        return super().summarize(state, X[::-1], y[::-1])


@dataclass(frozen=True)
class Overflows(Adaptive):
    """Broken: squares what may be 1e12 until nothing is left."""

    def score(self, state: AdaptiveState, X: Array) -> Scored:
        with np.errstate(over="ignore", invalid="ignore"):
            return super().score(state, X**30)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (MutatesItsState(k=2), check_state_untouched),
        (ForgetsTheIntercept(family="linear"), check_weights_agree),
        (LearnsTheWrongWay(family="logistic"), check_learns),
        (DependsOnTheBatch(family="logistic"), check_cuts_do_not_matter),
        (Overflows(family="linear"), check_any_scale),
    ],
    ids=lambda value: type(value).__name__ if not callable(value) else value.__name__,
)
def test_broken_learner_is_caught(broken: Any, check: Any) -> None:
    with pytest.raises(AssertionError):
        check(broken, problem(broken))


def test_only_the_check_that_names_the_fault_is_needed_for_a_mutating_learner() -> None:
    broken = MutatesItsState(k=2)
    caught = []
    for check in LEARNER_CHECKS:
        try:
            check(broken, problem(broken))
        except AssertionError:
            caught.append(check.__name__)
    assert "check_state_untouched" in caught
    assert "check_deterministic" not in caught
