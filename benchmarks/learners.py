"""Online learners at equal loss: rows per second and prequential log loss beside River, Vowpal Wabbit, CapyMOA and scikit-learn.

    python -m benchmarks learners

Test-then-train over one stream (20 features on different scales, logistic labels). Every learner runs with a few learning
rates and keeps the one with the least loss, as anybody would tune it; speed is then that run's. A learner that is faster
with a worse loss has not done the same work: the loss stands beside each rate, and how far it is from the best.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one thread, as the others have

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import apart

Array = np.ndarray[Any, np.dtype[np.float64]]
#: (features, labels, learning rate) -> the probability of each row before it was learned
Run = Callable[[Array, Array, float], Array]
#: Each learner's own scale of learning rates.
RATES = (0.01, 0.03, 0.1, 0.3)
_MINI_BATCH = 100


def stream(n: int, d: int = 20) -> tuple[Array, Array]:
    """Features of different scales, and labels under a logistic law."""
    rng = np.random.default_rng(11)
    z, w = rng.normal(size=(n, d)), rng.normal(size=d)
    return z * rng.uniform(0.5, 20.0, d) + rng.uniform(-5.0, 5.0, d), (rng.random(n) < 1.0 / (1.0 + np.exp(-z @ w))).astype(float)


def log_loss(y: Array, p: Array) -> float:
    """Mean of -log(probability of what happened), over all rows but the first tenth."""
    first = len(y) // 10
    p = np.clip(p[first:], 1e-15, 1.0 - 1e-15)
    return float(-np.mean(np.where(y[first:] == 1.0, np.log(p), np.log1p(-p))))


def ours(mini_batch: int, **params: Any) -> Run:
    """This project's logistic regression, so many rows at a time, each scored before it is learned."""

    def run(X: Array, y: Array, rate: float) -> Array:
        from streaming.online.algorithms import make

        learner = make("logistic_regression", {"learning_rate": rate, "mini_batch": mini_batch, **params})
        state, p = learner.init(X.shape[1]), np.zeros(len(y))
        for i in range(0, len(y), mini_batch):
            rows, labels = X[i : i + mini_batch], y[i : i + mini_batch]
            p[i : i + mini_batch] = learner.predict(state, rows)
            state = learner.update(state, learner.summarize(state, rows, labels))
        return p

    return run


def river(X: Array, y: Array, rate: float) -> Array:
    """StandardScaler and LogisticRegression with SGD."""
    from river import linear_model, optim, preprocessing

    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(rate))
    p = np.zeros(len(y))
    for i, row in enumerate(X.tolist()):
        x = dict(enumerate(row))
        p[i] = model.predict_proba_one(x).get(True, 0.5)
        model.learn_one(x, bool(y[i]))
    return p


def vowpal_wabbit(X: Array, y: Array, rate: float) -> Array:
    """Adaptive, normalized, invariant updates: its defaults. The text of the examples is made in the clock, as in any use of it."""
    from vowpalwabbit import Workspace

    vw = Workspace(f"--quiet --loss_function logistic --link logistic -l {rate * 10.0}")
    p = np.zeros(len(y))
    for i, row in enumerate(X.tolist()):
        example = vw.parse(f"{2 * y[i] - 1:.0f} | " + " ".join(f"{j}:{v:.6g}" for j, v in enumerate(row)))
        p[i] = vw.predict(example)
        vw.learn(example)
        vw.finish_example(example)
    vw.finish()
    return p


def scikit_learn(X: Array, y: Array, rate: float) -> Array:
    """StandardScaler and SGDClassifier by partial_fit, a hundred rows at a time."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", learning_rate="constant", eta0=rate / 10.0, random_state=0)
    p = np.full(len(y), 0.5)
    for i in range(0, len(y), _MINI_BATCH):
        rows, labels = X[i : i + _MINI_BATCH], y[i : i + _MINI_BATCH]
        if i:
            p[i : i + _MINI_BATCH] = model.predict_proba(scaler.transform(rows))[:, 1]
        model.partial_fit(scaler.partial_fit(rows).transform(rows), labels, classes=[0.0, 1.0])
    return p


def capymoa(X: Array, y: Array, rate: float) -> Array:
    """MOA's SGD with the logistic loss, on rows that are brought to deviation 1 beforehand: it has no scaler of its own."""
    from capymoa.base import MOAClassifier
    from capymoa.stream import NumpyStream
    from moa.classifiers.functions import SGD

    source = NumpyStream((X - X.mean(axis=0)) / X.std(axis=0), y.astype(int), target_type="categorical")
    model = MOAClassifier(moa_learner=SGD, schema=source.get_schema(), CLI=f"-o LOGLOSS -r {rate / 10.0}")
    p = np.full(len(y), 0.5)
    for i in range(len(y)):
        instance = source.next_instance()
        votes = model.predict_proba(instance)
        if votes is not None and len(votes) == 2 and sum(votes) > 0.0:
            p[i] = votes[1] / sum(votes)
        model.train(instance)
    return p


RUNS: dict[str, Run] = {
    "ours, 100 at a time": ours(100),
    "ours, newton, 100 at a time": ours(100, optimizer="newton"),
    "ours, row by row": ours(1),
    "River": river,
    "Vowpal Wabbit": vowpal_wabbit,
    "scikit-learn, 100 at a time": scikit_learn,
    "CapyMOA (MOA's SGD)": capymoa,
}


def best(run: Run, X: Array, y: Array) -> tuple[float, float]:
    """(log loss, rows per second) of the learning rate with the least loss."""
    runs = []
    for rate in RATES:
        began = time.perf_counter()
        p = run(X, y, rate)
        runs.append((log_loss(y, p), len(y) / (time.perf_counter() - began)))
    return min(runs)


def main() -> None:
    """Measure and hand the figures over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    X, y = stream(rows)
    by_learner = {}
    for name, run in RUNS.items():
        apart.say(name)
        try:
            run(X[:500], y[:500], RATES[0])  # imports and the JVM are not learning
            by_learner[name] = best(run, X, y)
        except ImportError as missing:
            apart.note(f"{name}: left out, {missing.name} is not installed here; to install it: make bench-peers")
    least = min(loss for loss, _ in by_learner.values())
    for name, (loss, rate) in by_learner.items():
        apart.figure(name, f"{rows:,} rows, 20 features", "log loss", "", [loss])
        apart.figure(name, f"{rows:,} rows, 20 features", "above the best", "%", [100.0 * (loss / least - 1.0)])
        apart.figure(name, f"{rows:,} rows, 20 features", "rows/s", "", [rate])


if __name__ == "__main__":
    sys.exit(main())
