"""`compat: mllib` against pyspark.mllib itself, batch by batch, as its `trainOn` drives it (without a StreamingContext)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.mllib.classification import LogisticRegressionWithSGD
from pyspark.mllib.clustering import StreamingKMeansModel
from pyspark.mllib.linalg import Vectors
from pyspark.mllib.regression import LabeledPoint, LinearRegressionWithSGD
from pyspark.sql import SparkSession

from streaming.online.algorithms import make

pytestmark = pytest.mark.filterwarnings("ignore")  # pyspark.mllib warns that it is in maintenance mode

#: (step_size, num_iterations, reg_param, convergence_tol): never converged · converged on the way · at iteration 2.
GRID = [(0.5, 6, 0.1, 0.0), (0.3, 50, 0.05, 0.05), pytest.param(0.01, 30, 0.5, 1.0, marks=pytest.mark.campaign)]


def _batches(*, binary: bool, seed: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of unequal size, an empty one among them."""
    rng = np.random.default_rng(seed)
    w = np.array([1.5, -2.0, 0.5])
    result = []
    for n in (40, 0, 7):
        X = rng.normal(size=(n, 3))
        m = X @ w + 0.3 * rng.normal(size=n)
        result.append((X, (m > 0).astype(float) if binary else m))
    return result


def _rdd(spark: SparkSession, X: np.ndarray, y: np.ndarray) -> Any:
    return spark.sparkContext.parallelize([LabeledPoint(float(t), Vectors.dense(x)) for x, t in zip(X, y, strict=True)], 1)


def _learn_in_two_partitions(learner: Any, state: Any, X: np.ndarray, y: np.ndarray) -> Any:
    half = len(X) // 2
    return learner.update(state, learner.merge(learner.summarize(state, X[:half], y[:half]), learner.summarize(state, X[half:], y[half:])))


@pytest.mark.parametrize(("step", "iterations", "reg", "tol"), GRID)
def test_linear_regression_gives_sparks_weights(spark: SparkSession, step: float, iterations: int, reg: float, tol: float) -> None:
    start = (0.1, 0.0, -0.2)
    learner = make(
        "linear_regression",
        {"compat": "mllib", "step_size": step, "num_iterations": iterations, "convergence_tol": tol, "initial_weights": list(start)},
    )
    state, weights = learner.init(3), Vectors.dense(start)
    for X, y in _batches(binary=False):
        state = _learn_in_two_partitions(learner, state, X, y)
        if len(X):
            weights = LinearRegressionWithSGD.train(
                _rdd(spark, X, y), iterations, step, 1.0, weights, intercept=False, convergenceTol=tol
            ).weights
        np.testing.assert_allclose(state.w, weights.toArray(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("step", "iterations", "reg", "tol"), GRID)
def test_logistic_regression_gives_sparks_weights_and_predictions(
    spark: SparkSession, step: float, iterations: int, reg: float, tol: float
) -> None:
    params = {
        "step_size": step,
        "num_iterations": iterations,
        "reg_param": reg,
        "convergence_tol": tol,
        "initial_weights": [0.0, 0.1, -0.1],
    }
    learner = make("logistic_regression", {"compat": "mllib", **params})
    state, weights, model = learner.init(3), Vectors.dense([0.0, 0.1, -0.1]), None
    for X, y in _batches(binary=True):
        state = _learn_in_two_partitions(learner, state, X, y)
        if len(X):
            model = LogisticRegressionWithSGD.train(_rdd(spark, X, y), iterations, step, 1.0, weights, regParam=reg, convergenceTol=tol)
            weights = model.weights
        np.testing.assert_allclose(state.w, weights.toArray(), rtol=1e-9, atol=1e-9)
    assert model is not None
    X = _batches(binary=True)[0][0]
    assert learner.score(state, X).prediction.tolist() == [float(model.predict(Vectors.dense(x))) for x in X]
    model.clearThreshold()
    np.testing.assert_allclose(learner.predict(state, X), [model.predict(Vectors.dense(x)) for x in X], rtol=1e-9)


@pytest.mark.parametrize(
    ("unit", "decay", "mass"),
    [
        ("batches", 1.0, [0.0, 0.0, 0.0]),
        ("batches", 0.5, [10.0, 3.0, 1e-9]),
        ("points", 0.97, [10.0, 3.0, 1e-9]),
        ("points", 0.0, [1.0, 1.0, 1.0]),
    ],
)
def test_kmeans_gives_sparks_centres_and_masses(spark: SparkSession, unit: str, decay: float, mass: list[float]) -> None:
    centres = [[0.0, 0.0], [5.0, 5.0], [-40.0, 40.0]]  # the last is never nearest: it dies
    params = {"k": 3, "decay": decay, "time_unit": unit, "initial_centers": centres, "initial_weights": mass}
    learner = make("kmeans", {"compat": "mllib", **params})
    state, model = learner.init(2), StreamingKMeansModel(centres, mass)
    rng = np.random.default_rng(5)
    for n in (12, 0, 5, 9):
        X = rng.normal(size=(n, 2)) + np.where(rng.random((n, 1)) < 0.5, 5.0, 0.0)
        state = _learn_in_two_partitions(learner, state, X, np.zeros(n))
        model = model.update(spark.sparkContext.parallelize([Vectors.dense(x) for x in X], 1), decay, unit)
        np.testing.assert_allclose(state.mass, model.clusterWeights, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(state.centres, np.array(model.centers), rtol=1e-9, atol=1e-9)
