"""Test-then-train on River's bundled streams with default parameters: at least as good as River's own published results."""

from __future__ import annotations

import numpy as np
import pytest
from river import datasets

from streaming.online.algorithms import make


def stream(name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = list(getattr(datasets, name)())
    return np.array([[float(v) for v in x.values()] for x, _ in rows]), np.array([float(y) for _, y in rows])


@pytest.mark.parametrize("optimizer", ["adagrad", "newton"])
@pytest.mark.parametrize(("name", "accuracy"), [("Phishing", 0.887), ("Bananas", 0.543)])
def test_accuracy(name: str, accuracy: float, optimizer: str) -> None:
    X, y = stream(name)
    learner = make("logistic_regression", {"optimizer": optimizer} if optimizer != "adagrad" else {})
    state, hits = learner.init(X.shape[1]), 0.0
    for i in range(len(X)):
        row, label = X[i : i + 1], y[i : i + 1]
        hits += learner.score(state, row).prediction[0] == label[0]
        state = learner.update(state, learner.summarize(state, row, label))
    assert hits / len(X) >= accuracy


@pytest.mark.parametrize(
    ("algorithm", "optimizer"), [("linear_regression", None), ("linear_regression", "newton"), ("ridge", None), ("poisson", None)]
)
@pytest.mark.parametrize(("name", "mae"), [("TrumpApproval", 1.315), ("ChickWeights", 23.76)])
def test_mean_absolute_error(name: str, mae: float, algorithm: str, optimizer: str | None) -> None:
    X, y = stream(name)
    learner = make(algorithm, {} if optimizer is None else {"optimizer": optimizer})
    state, error = learner.init(X.shape[1]), 0.0
    for i in range(len(X)):
        row, label = X[i : i + 1], y[i : i + 1]
        error += abs(learner.predict(state, row)[0] - label[0])
        state = learner.update(state, learner.summarize(state, row, label))
    assert error / len(X) <= mae
