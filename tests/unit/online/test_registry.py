"""Learners by name: what is wrong is named, with what would be right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streaming.online.algorithms import LEARNERS, make, parameters
from streaming.online.base import Learner, from_arrays
from streaming.online.weights import Weights


@pytest.mark.parametrize(
    ("algorithm", "params", "words"),
    [
        ("logistic", {}, ["algorithm", "'logistic'", "logistic_regression", "kmeans"]),
        ("ridge", {"lambda": 1}, ["ridge: lambda: unknown", "l2 (number)", "half_life (number or null)"]),
        ("ridge", {"l2": "high"}, ["ridge: l2: got 'high', expected number"]),
        ("ridge", {"l2": -1.0}, ["ridge", "above 0", "-1.0"]),
        ("ridge", {"compat": "mllib"}, ["ridge: compat", "leave it out"]),
        ("linear_regression", {"compat": "spark"}, ["linear_regression: compat", "'mllib'"]),
        ("linear_regression", {"mini_batch": 1.5}, ["mini_batch", "whole number"]),
        ("linear_regression", {"mini_batch": True}, ["mini_batch", "whole number"]),
        ("linear_regression", {"family": "poisson"}, ["family: unknown parameter"]),
        ("linear_regression", {"optimizer": "adam"}, ["optimizer", "adagrad | newton"]),
        ("linear_regression", {"optimizer": "newton", "l2": 1.0}, ["l1 and l2", "prior"]),
        ("linear_regression", {"half_life": 0.1}, ["half_life", "1 row or more"]),
        ("logistic_regression", {"compat": "mllib", "num_iterations": 0}, ["num_iterations", "1 or more"]),
        ("softmax", {}, ["softmax", "k", "2 or more"]),
        ("kmeans", {"k": 2, "initial_centers": [[0.0]]}, ["initial_centers has 1"]),
        ("kmeans", {"time_unit": "days"}, ["time_unit", "batches | points"]),
        ("river", {}, ["river: model: missing"]),
        ("river", {"model": "os.system"}, ["river", "no class"]),
        ("river", {"model": "datasets.Phishing"}, ["river", "not a River model class"]),
        ("river", {"model": "linear_model.LogisticRegression", "params": {"speed": 3}}, ["speed"]),
        ("river", {"model": "preprocessing.StandardScaler"}, ["neither a classifier nor a regressor"]),
    ],
)
def test_what_is_wrong_is_named(algorithm: str, params: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make(algorithm, params)
    for word in words:
        assert word in str(error.value)


def test_every_name_makes_a_learner() -> None:
    needed = {"softmax": {"k": 3}, "river": {"model": "linear_model.LinearRegression"}}
    for algorithm, compat in LEARNERS:
        learner = make(algorithm, {**needed.get(algorithm, {}), "compat": compat})
        assert isinstance(learner, Learner)
        assert parameters(algorithm, compat)


def test_lists_from_yaml_become_tuples() -> None:
    learner = make("kmeans", {"k": 1, "initial_centers": [[0, 1]], "decay": 1})
    assert learner.init(2).centres.tolist() == [[0.0, 1.0]]
    nested = make(
        "river", {"model": "linear_model.LinearRegression", "params": {"optimizer": {"class": "optim.Adam", "params": {"lr": 0.1}}}}
    )
    assert nested.labels == "number"


def test_a_state_of_another_learner_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry 'centres'"):
        from_arrays(make("kmeans", {}).state_type, {"w": np.zeros(2)})


@pytest.mark.parametrize(
    ("algorithm", "params", "weights"),
    [
        ("logistic_regression", {}, Weights("linear", np.ones(2), np.array(0.0))),
        ("logistic_regression", {"compat": "mllib"}, Weights("logistic", np.ones(2), np.array(1.0))),
        ("softmax", {"k": 3}, Weights("softmax", np.ones((2, 2)), np.zeros(2))),
        ("kmeans", {"k": 3}, Weights("nearest", np.ones((2, 2)), None)),
        ("ridge", {}, Weights("poisson", np.ones(2), np.array(0.0))),
        ("river", {"model": "linear_model.LinearRegression"}, Weights("linear", np.ones(2), np.array(0.0))),
    ],
)
def test_warm_refuses_weights_of_another_kind(algorithm: str, params: dict[str, Any], weights: Weights) -> None:
    with pytest.raises(ValueError):
        make(algorithm, params).warm(weights)


def test_weights_of_a_wrong_shape_do_not_exist() -> None:
    for kind, coefficients, intercept in (
        ("linear", np.ones((2, 2)), np.array(0.0)),
        ("softmax", np.ones((3, 2)), np.zeros(2)),
        ("tree", np.ones(2), None),
    ):
        with pytest.raises(ValueError, match="weights"):
            Weights(kind, coefficients, intercept)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing intercept"):
        Weights.from_json({"kind": "linear", "coefficients": [1.0]})


def test_mllib_logistic_regression_bounds_what_the_driver_holds() -> None:
    learner = make("logistic_regression", {"compat": "mllib", "max_rows": 5})
    part = learner.summarize(learner.init(1), np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match="max_rows=5"):
        learner.merge(part, part)
