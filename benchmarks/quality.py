"""Quality and speed of the online learners beside River, Vowpal Wabbit, scikit-learn and pyspark.mllib, in one run.

    python -m benchmarks quality            # everything; pyspark.mllib needs Java, Vowpal Wabbit its package
    python -m benchmarks quality --only quality

Quality: test-then-train over the streams bundled with River, in River's order, every learner with its defaults.
Speed: 20 features, standard normal, logistic labels. Bursts of a few milliseconds are interleaved and the fastest of
each counts, so that whatever else runs on the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one thread, as River, VW and scikit-learn have here
os.environ["PYSPARK_PYTHON"] = sys.executable

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from streaming.online.algorithms import make

Array = np.ndarray[Any, np.dtype[np.float64]]
#: (predict and learn row by row) -> the predictions
Prequential = Callable[[Array, Array, bool], Array]

STREAMS = {"Phishing": True, "Bananas": True, "TrumpApproval": False, "ChickWeights": False}


def stream(name: str) -> tuple[Array, Array]:
    """One of River's bundled streams as arrays."""
    from river import datasets

    rows = list(getattr(datasets, name)())
    return np.array([[float(v) for v in x.values()] for x, _ in rows]), np.array([float(y) for _, y in rows])


def ours(classifier: str | None, regressor: str | None, **params: Any) -> Prequential:
    """One of this project's learners; None where it has no form for the task."""

    def run(X: Array, y: Array, binary: bool) -> Array:
        name = classifier if binary else regressor
        if name is None:
            return np.full(len(y), np.nan)
        learner = make(name, params)
        state, predictions = learner.init(X.shape[1]), np.zeros(len(y))
        for i in range(len(y)):
            row, label = X[i : i + 1], y[i : i + 1]
            predictions[i] = learner.predict(state, row)[0]
            state = learner.update(state, learner.summarize(state, row, label))
        return predictions

    return run


def river(X: Array, y: Array, binary: bool) -> Array:
    """River's LogisticRegression or LinearRegression behind its StandardScaler."""
    from river import linear_model, preprocessing

    model = preprocessing.StandardScaler() | (linear_model.LogisticRegression() if binary else linear_model.LinearRegression())
    predictions = np.zeros(len(y))
    for i, row in enumerate(X.tolist()):
        x = dict(enumerate(row))
        predictions[i] = model.predict_proba_one(x)[True] if binary else model.predict_one(x)
        model.learn_one(x, bool(y[i]) if binary else y[i])
    return predictions


def vowpal_wabbit(X: Array, y: Array, binary: bool) -> Array:
    """Vowpal Wabbit with its defaults."""
    from vowpalwabbit import Workspace

    vw = Workspace("--quiet --loss_function logistic --link logistic" if binary else "--quiet")
    predictions = np.zeros(len(y))
    for i, row in enumerate(X.tolist()):
        features = " ".join(f"{j}:{v}" for j, v in enumerate(row))
        predictions[i] = vw.predict(f"| {features}")
        vw.learn(f"{2 * y[i] - 1 if binary else y[i]} | {features}")
    vw.finish()
    return predictions


def scikit_learn(X: Array, y: Array, binary: bool) -> Array:
    """scikit-learn's SGDClassifier or SGDRegressor by partial_fit, behind StandardScaler.partial_fit."""
    from sklearn.linear_model import SGDClassifier, SGDRegressor
    from sklearn.preprocessing import StandardScaler

    scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", random_state=0) if binary else SGDRegressor(random_state=0)
    predictions = np.zeros(len(y))
    for i in range(len(y)):
        row = X[i : i + 1]
        if i:
            z = scaler.transform(row)
            predictions[i] = model.predict_proba(z)[0, 1] if binary else model.predict(z)[0]
        z = scaler.partial_fit(row).transform(row)
        model.partial_fit(z, y[i : i + 1], classes=[0.0, 1.0]) if binary else model.partial_fit(z, y[i : i + 1])
    return predictions


QUALITY: dict[str, Prequential] = {
    "ours, default (adagrad)": ours("logistic_regression", "linear_regression"),
    "ours, newton": ours("logistic_regression", "linear_regression", optimizer="newton"),
    "ours, ridge": ours(None, "ridge"),
    "ours, poisson": ours(None, "poisson"),
    "River, scaler + linear": river,
    "Vowpal Wabbit": vowpal_wabbit,
    "scikit-learn partial_fit": scikit_learn,
}


def quality(console: Console) -> None:
    """Accuracy or mean absolute error per stream, and rows per second over all four, one row at a time."""
    table = Table(
        "test-then-train", *(f"{name} {'accuracy' if binary else 'MAE'}" for name, binary in STREAMS.items()), "rows/s, row by row"
    )
    for title, run in QUALITY.items():
        cells, rows, spent = [], 0, 0.0
        try:
            for name, binary in STREAMS.items():
                X, y = stream(name)
                started = time.perf_counter()
                predictions = run(X, y, binary)
                if np.isnan(predictions).all():
                    cells.append("-")
                    continue
                spent, rows = spent + time.perf_counter() - started, rows + len(y)
                cells.append(f"{np.mean((predictions > 0.5) == y):.4f}" if binary else f"{np.abs(predictions - y).mean():.3f}")
        except ImportError as missing:
            console.print(f"{title}: left out, {missing.name} is not installed")
            continue
        table.add_row(title, *cells, f"{rows / spent:,.0f}")
    console.print(table)


def problem(n: int = 20_000, d: int = 20) -> tuple[Array, Array]:
    """Standard normal features and logistic labels."""
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(n, d)), rng.normal(size=d)
    return X, (rng.random(n) < 1 / (1 + np.exp(-X @ w))).astype(float)


Burst = tuple[Callable[[], Any], int]


def our_burst(
    params: dict[str, Any], X: Array, y: Array, *, n: int, algorithm: str = "logistic_regression", predict: bool = False
) -> Burst:
    """Learning `n` rows from a state that has seen some; with `predict`, each mini-batch is scored first."""
    learner = make(algorithm, params)
    state = learner.update(learner.init(X.shape[1]), learner.summarize(learner.init(X.shape[1]), X[:2000], y[:2000]))

    def learn() -> None:
        learner.update(state, learner.summarize(state, X[:n], y[:n]))

    def both() -> None:
        now = state
        for i in range(0, n, 1000):
            learner.predict(now, X[i : i + 1000])
            now = learner.update(now, learner.summarize(now, X[i : i + 1000], y[i : i + 1000]))

    return (both if predict else learn), n


def river_burst(X: Array, y: Array, *, scaled: bool) -> Burst:
    """River's predict_proba_one and learn_one over 500 rows."""
    from river import linear_model, preprocessing

    logistic = linear_model.LogisticRegression()
    model: Any = preprocessing.StandardScaler() | logistic if scaled else logistic
    rows, labels = [dict(enumerate(row)) for row in X[:500].tolist()], y[:500].astype(bool).tolist()

    def run() -> None:
        for x, label in zip(rows, labels, strict=True):
            model.predict_proba_one(x)
            model.learn_one(x, label)

    return run, len(rows)


def vw_burst(X: Array, y: Array) -> Burst:
    """Vowpal Wabbit's learn (which predicts first) over 500 text examples."""
    from vowpalwabbit import Workspace

    vw = Workspace("--quiet --loss_function logistic")
    lines = [
        f"{2 * t - 1:.0f} | " + " ".join(f"{j}:{v:.5f}" for j, v in enumerate(row))
        for row, t in zip(X[:500].tolist(), y[:500], strict=True)
    ]

    def run() -> None:
        for line in lines:
            vw.learn(line)

    return run, len(lines)


def sklearn_burst(X: Array, y: Array) -> Burst:
    """scikit-learn's partial_fit, scaler and classifier, over one mini-batch of 1,000."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scaler, model = StandardScaler(), SGDClassifier(loss="log_loss")
    model.partial_fit(scaler.partial_fit(X[:1000]).transform(X[:1000]), y[:1000], classes=[0.0, 1.0])
    return lambda: model.partial_fit(scaler.partial_fit(X[:1000]).transform(X[:1000]), y[:1000]), 1000


def speed(console: Console) -> None:
    """Rows per second, fastest of many interleaved bursts, and the ratio to River with and without its scaler."""
    X, y = problem()
    bursts: dict[str, Burst] = {
        "River, predict and learn": river_burst(X, y, scaled=False),
        "River, scaler, predict and learn": river_burst(X, y, scaled=True),
        "scikit-learn partial_fit, scaler, 1,000": sklearn_burst(X, y),
        "ours, mini_batch 1,000, standardize false": our_burst({"mini_batch": 1000, "standardize": False}, X, y, n=10_000),
        "ours, mini_batch 1,000": our_burst({"mini_batch": 1000}, X, y, n=10_000),
        "ours, mini_batch 1,000, predict and learn": our_burst({"mini_batch": 1000}, X, y, n=10_000, predict=True),
        "ours, newton, mini_batch 1,000": our_burst({"mini_batch": 1000, "optimizer": "newton"}, X, y, n=10_000),
        "ours, ridge": our_burst({}, X, y, n=10_000, algorithm="ridge"),
        "ours, row by row": our_burst({}, X, y, n=1000),
        "ours, newton, row by row": our_burst({"optimizer": "newton"}, X, y, n=500),
    }
    try:
        bursts["Vowpal Wabbit, learn"] = vw_burst(X, y)
    except ImportError:
        console.print("Vowpal Wabbit: left out, vowpalwabbit is not installed")
    best = dict.fromkeys(bursts, np.inf)
    for _ in range(100):
        for title, (run, n) in bursts.items():
            run()  # brings its rows into the cache, which the burst before has filled with its own
            started = time.perf_counter()
            run()
            best[title] = min(best[title], (time.perf_counter() - started) / n)
    table = Table("20 features", "rows/s", "x River", "x River with scaler")
    for title, seconds in best.items():
        ratios = (best[name] / seconds for name in ("River, predict and learn", "River, scaler, predict and learn"))
        table.add_row(title, f"{1 / seconds:,.0f}", *(f"{r:,.1f}" for r in ratios))
    console.print(table)


def mllib(console: Console) -> None:
    """Seconds per batch of 50 iterations (tolerance 0) over 10,000 rows: compat mllib beside pyspark.mllib's own loop."""
    from pyspark.mllib.classification import LogisticRegressionWithSGD
    from pyspark.mllib.regression import LabeledPoint, LinearRegressionWithSGD
    from pyspark.sql import SparkSession

    warnings.simplefilter("ignore")
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "1g").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    X, y = problem(10_000)
    rdd = spark.sparkContext.parallelize([LabeledPoint(t, x) for x, t in zip(X.tolist(), y.tolist(), strict=True)], 2).cache()
    rdd.count()
    table = Table("10,000 rows, 50 iterations", "pyspark.mllib s/batch", "compat mllib s/batch", "ratio", "largest difference")
    for name, theirs in (("linear_regression", LinearRegressionWithSGD), ("logistic_regression", LogisticRegressionWithSGD)):
        learner = make(name, {"compat": "mllib", "convergence_tol": 0.0})
        state, seconds = learner.init(20), {"theirs": np.inf, "ours": np.inf}
        for _ in range(3):
            started = time.perf_counter()
            model = theirs.train(rdd, 50, 0.1, 1.0, [0.0] * 20, regParam=0.0, convergenceTol=0.0)
            seconds["theirs"] = min(seconds["theirs"], time.perf_counter() - started)
            started = time.perf_counter()
            halves = [learner.summarize(state, X[i::2], y[i::2]) for i in range(2)]
            after = learner.update(state, learner.merge(*halves))
            seconds["ours"] = min(seconds["ours"], time.perf_counter() - started)
        gap = np.abs(model.weights.toArray() - after.w).max()
        table.add_row(
            name, f"{seconds['theirs']:.3f}", f"{seconds['ours']:.5f}", f"{seconds['theirs'] / seconds['ours']:,.0f}", f"{gap:.1e}"
        )
    spark.stop()
    console.print(table)


PARTS = {"quality": quality, "speed": speed, "mllib": mllib}


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, help="one table instead of all")
    chosen = parser.parse_args().only
    console = Console(width=160)
    for name, part in PARTS.items():
        if chosen in (None, name):
            part(console)


if __name__ == "__main__":
    main()
