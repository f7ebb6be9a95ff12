"""Oracles: finite differences, closed forms, scikit-learn, and the formulas of the docstrings evaluated by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.online import moments
from streaming.online.adaptive import losses, raw_steps, steps
from streaming.online.adaptive.losses import Family
from streaming.online.adaptive.steps import Fit, Steps
from streaming.online.algorithms import make
from streaming.online.base import valid_rows
from streaming.online.weights import Scored, Weights

FAMILIES: list[Family] = ["linear", "logistic", "softmax", "poisson"]


def _loss(family: Family, m: np.ndarray, t: np.ndarray) -> float:
    match family:
        case "linear":
            return float(((m - t) ** 2).sum() / 2)
        case "logistic":
            return float((np.logaddexp(0, m) - t * m).sum())
        case "softmax":
            return float(np.log(np.exp(m).sum()) - (t * m).sum())
        case "poisson":
            return float((np.exp(m) - t * m).sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_and_curvature_are_the_derivatives_of_the_loss(family: Family) -> None:
    k = 3 if family == "softmax" else 1
    how = Steps(family, 1.0, 0.1, 0.0, 0.0, math.inf, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        m = rng.normal(size=k)
        t = np.eye(k)[1] if family == "softmax" else rng.integers(0, 2, size=1).astype(float)
        residual, response = steps.residuals(how, m[None], t[None])
        bend = losses.curvature(family, response)
        for j in range(k):
            e = 1e-4 * np.eye(k)[j]
            up, down, here = _loss(family, m + e, t), _loss(family, m - e, t), _loss(family, m, t)
            assert residual[0, j] == pytest.approx((up - down) / 2e-4, abs=1e-6)
            assert bend[0, j] == pytest.approx((up - 2 * here + down) / 1e-8, abs=1e-5)


def test_adagrad_row_is_the_formula_of_the_docstring() -> None:
    how = Steps("logistic", 0.9, 0.1, 0.01, 0.02, math.inf, 1.0)
    w, G, z = np.array([0.3, -0.2, 0.1]), np.array([0.5, 0.4, 0.2]), np.array([1.5, -0.7, 1.0])
    r = 1 / (1 + math.exp(-(w @ z))) - 1.0
    free = np.array([1.0, 1.0, 0.0])  # the intercept is not penalised
    g = r * z + 0.02 * free * w
    G2 = 0.9 * G + g * g
    v = w - 0.1 * g / np.sqrt(G2)
    expected = np.sign(v) * np.maximum(np.abs(v) - 0.1 * 0.01 * free / np.sqrt(G2), 0)
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    for run in (steps.adagrad_rows, steps.adagrad_batch):
        fit = run(how, Fit(w[None], G[None]), z[None], zero, one)
        np.testing.assert_allclose(fit.w[0], expected, rtol=1e-12)
        np.testing.assert_allclose(fit.curve[0], G2, rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("rows", "batch"), [(steps.adagrad_rows, steps.adagrad_batch), (steps.newton_rows, steps.newton_batch)], ids=["adagrad", "newton"]
)
def test_a_mini_batch_of_one_is_a_row(family: Family, rows: object, batch: object) -> None:
    k = 3 if family == "softmax" else 1
    how = Steps(family, 0.99, 0.1, 0.0, 0.0, 5.0, 1.0)
    rng = np.random.default_rng(1)
    Z = np.column_stack([rng.normal(size=(30, 2)), np.ones(30)])
    t = np.eye(3)[rng.integers(0, 3, 30)] if k == 3 else rng.integers(0, 2, size=(30, 1)).astype(float)
    curve = np.full((k, 3), 1e-3) if rows is steps.adagrad_rows else np.tile(np.eye(3), (k, 1, 1))
    row_by_row = all_at_once = Fit(np.zeros((k, 3)), curve)
    all_at_once = rows(how, all_at_once, Z, np.zeros((30, k)), t)  # type: ignore[operator]
    for i in range(30):
        row_by_row = batch(how, row_by_row, Z[i : i + 1], np.zeros((1, k)), t[i : i + 1])  # type: ignore[operator]
    np.testing.assert_allclose(row_by_row.w, all_at_once.w, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(row_by_row.curve, all_at_once.curve, rtol=1e-7, atol=1e-9)


def test_newton_on_squared_loss_is_ridge_regression() -> None:
    rng = np.random.default_rng(2)
    Z = np.column_stack([rng.normal(size=(50, 3)), np.ones(50)])
    t = rng.normal(size=(50, 1))
    start = Fit(np.zeros((1, 4)), np.eye(4)[None] / 2.0)
    fit = steps.newton_rows(Steps("linear", 1.0, 0.1, 0.0, 0.0, math.inf, 2.0), start, Z, np.zeros((50, 1)), t)
    np.testing.assert_allclose(fit.w[0], np.linalg.solve(Z.T @ Z + 2.0 * np.eye(4), Z.T @ t[:, 0]), rtol=1e-9)
    np.testing.assert_allclose(fit.curve[0], np.linalg.inv(Z.T @ Z + 2.0 * np.eye(4)), rtol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folded_mini_batch_equals_the_standardised_one(family: Family) -> None:
    k = 3 if family == "softmax" else 1
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 4)) * [1.0, 100.0, 1e-3, 5.0] + [0.0, 900.0, 0.05, -3.0]
    t = np.eye(3)[rng.integers(0, 3, 200)] if k == 3 else rng.integers(0, 2, size=(200, 1)).astype(float)
    how = Steps(family, 0.999, 0.1, 0.0, 1e-3, 20.0, 1.0)
    sums = raw_steps.column_sums(moments.empty(4), X, 20.0)
    assert sums.plain
    frame = losses.frame_of("logistic", sums.moments.mean, moments.spread(sums.moments), 4)
    fit = Fit(rng.normal(size=(k, 5)) * 0.1, np.full((k, 5), 0.1))
    Z = np.column_stack([(X - frame.centre) / frame.scale, np.ones(200)])
    a = raw_steps.adagrad_batch(how, fit, sums, frame, np.zeros((200, k)), t)
    b = steps.adagrad_batch(how, fit, Z, np.zeros((200, k)), t)
    np.testing.assert_allclose(a.w, b.w, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(a.curve, b.curve, rtol=1e-9)


def test_the_fold_is_not_used_where_it_would_cancel_or_skip_a_cut() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 2))
    assert not raw_steps.column_sums(moments.empty(2), X + 1e4, 20.0).plain
    known = raw_steps.column_sums(moments.empty(2), X, 20.0).moments
    X[7, 1] = 50.0
    sums = raw_steps.column_sums(known, X, 20.0)
    assert not sums.plain
    assert sums.values[7, 1] == pytest.approx(known.mean[1] + 20.0 * moments.spread(known)[1])


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=4),
    gamma=st.sampled_from([1.0, 0.999, 0.5]),
    scale=st.sampled_from([1e-6, 1.0, 1e9]),
    outlier=st.integers(0, 399),
    seed=st.integers(0, 99),
)
def test_running_moments_are_those_of_welford_whatever_the_cuts(
    cuts: list[int], gamma: float, scale: float, outlier: int, seed: int
) -> None:
    X = scale * (np.random.default_rng(seed).normal(size=(400, 2)) + 3.0)
    X[outlier, 0] = 1e6 * scale
    now, rows = moments.empty(2), []
    for x in X:
        now, cut = moments.step(now, x, gamma=gamma, cut=20.0)
        rows.append((now.mean, moments.spread(now), cut))
    start, parts = moments.empty(2), []
    for rows_of in np.split(X, sorted(cuts)):
        parts.append(moments.course(start, rows_of, gamma=gamma, cut=20.0))
        start = parts[-1].last
    # Sums of squares lose what is below the rounding of the greatest square: that bounds the variance, not its root.
    rounding = 8 * np.finfo(float).eps * (X**2).max()
    for name, i, power, lost in (("means", 0, 1, 0.0), ("deviations", 1, 2, rounding), ("values", 2, 1, 0.0)):
        actual, expected = np.concatenate([getattr(p, name) for p in parts]), np.array([r[i] for r in rows])
        np.testing.assert_allclose(actual**power, expected**power, rtol=power * 1e-7, atol=(1e-9 * scale) ** power + lost)


def test_moments_of_two_halves_are_those_of_the_whole() -> None:
    X = np.random.default_rng(5).normal(size=(101, 3)) * [1, 1e3, 1e-3] + [0, 5, 1e3]
    a, b = (moments.course(moments.empty(3), half).last for half in (X[:30], X[30:]))
    whole = moments.merge(a, b)
    np.testing.assert_allclose(whole.mean, X.mean(axis=0), rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(moments.spread(whole), X.std(axis=0), rtol=1e-9)
    rest = moments.without(whole, a)
    np.testing.assert_allclose(moments.spread(rest), moments.spread(b), rtol=1e-6)


def test_one_wild_value_does_not_flatten_a_feature() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(2000, 2))
    y = X[:, 0] + 0.1 * rng.normal(size=2000)
    learner = make("linear_regression", {})
    wild = X.copy()
    wild[1000, 0] = 1e12
    state = learner.update(learner.init(2), learner.summarize(learner.init(2), wild, y))
    assert np.abs(learner.predict(state, X) - y).mean() < 0.15


def test_ridge_is_scikit_learns_ridge_on_standardised_features() -> None:
    from sklearn.linear_model import Ridge as Oracle
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(7)
    X = rng.normal(size=(80, 4)) * [1, 1e3, 1e-3, 1] + [0, 1e4, 0, 2]
    y = X @ [1.0, 2e-3, 500.0, 0.0] + 7.0 + rng.normal(size=80)
    learner = make("ridge", {"l2": 3.0})
    parts = [learner.summarize(learner.init(4), X[i::3], y[i::3]) for i in range(3)]
    state = learner.update(learner.init(4), learner.merge(learner.merge(parts[0], parts[1]), parts[2]))
    scaler = StandardScaler().fit(X)
    oracle = Oracle(alpha=3.0).fit(scaler.transform(X), y)
    np.testing.assert_allclose(learner.predict(state, X), oracle.predict(scaler.transform(X)), rtol=1e-9)
    least = make("ridge", {"l2": 1e-9})
    state = least.update(least.init(4), least.summarize(least.init(4), X, y))
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(80)]), y, rcond=None)[0]
    np.testing.assert_allclose(least.predict(state, X), X @ solution[:4] + solution[4], rtol=1e-7)


def test_ridge_without_intercept_goes_through_the_origin() -> None:
    X = np.array([[1.0], [2.0], [4.0]])
    learner = make("ridge", {"l2": 1e-9, "fit_intercept": False})
    weights = learner.weights(learner.update(learner.init(1), learner.summarize(learner.init(1), X, 3.0 * X[:, 0])))
    assert weights is not None
    assert weights.intercept == 0.0
    assert weights.coefficients[0] == pytest.approx(3.0)


def test_newton_partitions_multiply_to_what_one_partition_gives() -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(3000, 3))
    y = X @ [1.0, -2.0, 0.5] + 1.0 + 0.1 * rng.normal(size=3000)
    learner = make("linear_regression", {"optimizer": "newton"})
    state = learner.update(learner.init(3), learner.summarize(learner.init(3), X[:1000], y[:1000]))
    whole = learner.update(state, learner.summarize(state, X[1000:], y[1000:]))
    two = learner.update(
        state, learner.merge(learner.summarize(state, X[1000:2000], y[1000:2000]), learner.summarize(state, X[2000:], y[2000:]))
    )
    np.testing.assert_allclose(learner.predict(whole, X), learner.predict(two, X), atol=0.05)
    np.testing.assert_allclose(whole.moments.mean, two.moments.mean, rtol=1e-9)
    np.testing.assert_allclose(whole.moments.m2, two.moments.m2, rtol=1e-9)


def test_adagrad_partitions_average_their_weights_and_add_their_squares() -> None:
    rng = np.random.default_rng(9)
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] > 0).astype(float)
    learner = make("logistic_regression", {})
    state = learner.init(2)
    a, b = learner.summarize(state, X[:100], y[:100]), learner.summarize(state, X[100:], y[100:])
    after = learner.update(state, learner.merge(a, b))
    wa, wb = a.parts[0].state, b.parts[0].state
    np.testing.assert_allclose(after.w, (wa.w * 100 + wb.w * 200) / 300, rtol=1e-12)
    np.testing.assert_allclose(after.curve, wa.curve + wb.curve, rtol=1e-12)
    assert after.rows == 300


def test_forgetting_follows_a_change_that_remembering_does_not() -> None:
    rng = np.random.default_rng(10)
    X = rng.normal(size=(4000, 2))
    y = np.where(np.arange(4000) < 3000, X[:, 0], -X[:, 0]) + 0.01 * rng.normal(size=4000)
    for algorithm, params in (("ridge", {}), ("linear_regression", {"optimizer": "newton"})):
        errors = []
        for half_life in (None, 100.0):
            learner = make(algorithm, {**params, "half_life": half_life})
            state = learner.init(2)
            for i in range(0, 4000, 100):
                state = learner.update(state, learner.summarize(state, X[i : i + 100], y[i : i + 100]))
            errors.append(float(np.abs(learner.predict(state, X[3000:]) - y[3000:]).mean()))
        assert errors[1] < 0.05 < 0.5 < errors[0], (algorithm, errors)


def test_l1_shrinks_useless_coefficients_more_than_useful_ones() -> None:
    rng = np.random.default_rng(11)
    X = rng.normal(size=(3000, 6))
    y = (X[:, 0] + 0.3 * rng.logistic(size=3000) > 0).astype(float)
    sizes = []
    for l1 in (0.0, 0.05):
        learner = make("logistic_regression", {"l1": l1})
        weights = learner.weights(learner.update(learner.init(6), learner.summarize(learner.init(6), X, y)))
        assert weights is not None
        sizes.append(np.abs(weights.coefficients))
    assert sizes[1][1:].sum() < 0.5 * sizes[0][1:].sum()
    assert sizes[1][0] > 0.5


def test_l2_pulls_towards_the_warm_start_and_not_to_zero() -> None:
    rng = np.random.default_rng(12)
    X = rng.normal(size=(4000, 2))
    y = rng.normal(size=4000)
    start = np.array([4.0, -3.0])
    for name, l2, expected in (("free", 0.0, 0.0 * start), ("held", 10.0, start * 10 / 11)):
        learner = make("linear_regression", {"l2": l2})
        state = learner.warm(Weights("linear", start, np.array(2.0)))
        weights = learner.weights(learner.update(state, learner.summarize(state, X, y)))
        assert weights is not None
        np.testing.assert_allclose(weights.coefficients, expected, atol=0.4, err_msg=name)


@pytest.mark.parametrize(("unit", "mass"), [("batches", [7.0, 5.0]), ("points", [4.5, 2.5])])
def test_kmeans_decays_as_the_code_of_mllib_does(unit: str, mass: list[float]) -> None:
    params = {"decay": 0.5, "time_unit": unit, "initial_centers": [[0.0], [100.0]], "initial_weights": [10.0, 10.0]}
    learner = make("kmeans", params)
    state = learner.update(learner.init(1), learner.summarize(learner.init(1), np.array([[1.0], [1.0]]), np.zeros(2)))
    assert state.mass.tolist() == mass
    assert state.centres[0, 0] == pytest.approx(2 / mass[0])
    assert state.centres[1, 0] == 100.0


def test_an_idle_topic_makes_only_mllib_forget() -> None:
    params = {"decay": 0.5, "initial_centers": [[0.0], [1.0]], "initial_weights": [10.0, 10.0]}
    for compat, mass in ((None, 10.0), ("mllib", 5.0)):
        learner = make("kmeans", {**params, "compat": compat})
        state = learner.update(learner.init(1), learner.summarize(learner.init(1), np.empty((0, 1)), np.empty(0)))
        assert state.mass[0] == mass


def test_half_life_of_kmeans_halves() -> None:
    learner = make("kmeans", {"half_life": 2.0, "compat": "mllib", "initial_centers": [[0.0], [1.0]], "initial_weights": [8.0, 8.0]})
    state = learner.init(1)
    for _ in range(4):
        state = learner.update(state, learner.summarize(state, np.empty((0, 1)), np.empty(0)))
    assert state.mass[0] == pytest.approx(2.0)


def test_twins_of_a_split_cluster_part_in_the_next_batch() -> None:
    rng = np.random.default_rng(13)
    X = np.concatenate([rng.normal(size=(200, 2)) - 5, rng.normal(size=(200, 2)) + 5])
    learner = make("kmeans", {"initial_centers": [[0.0, 0.0], [1e6, 1e6]]})
    state = learner.init(2)
    for _ in range(6):
        state = learner.update(state, learner.summarize(state, X, np.zeros(400)))
    assert np.sort(np.sign(state.centres[:, 0])).tolist() == [-1.0, 1.0]


def test_softmax_and_sigmoid_do_not_overflow() -> None:
    big = np.array([[1e5, -1e5], [0.0, 0.0]])
    for kind, coefficients, intercept in (("softmax", np.eye(2), np.zeros(2)), ("logistic", np.array([1.0, 0.0]), np.array(0.0))):
        scored: Scored = Weights(kind, coefficients, intercept).predict(big)  # type: ignore[arg-type]
        assert scored.probability is not None
        assert np.isfinite(scored.probability).all()
    assert np.isfinite(Weights("poisson", np.array([1.0, 0.0]), np.array(0.0)).predict(big).prediction).all()


def test_a_tie_is_class_zero_as_in_mllib() -> None:
    assert Weights("logistic", np.zeros(2), np.array(0.0)).predict(np.ones((1, 2))).prediction[0] == 0.0


@pytest.mark.parametrize(
    ("labels", "good", "bad"),
    [
        ("binary", [0, 1], [0.5, 2, math.nan]),
        ("classes", [0, 2], [3, -1, 1.5]),
        ("count", [0, 2.5], [-1, math.inf]),
        ("number", [-3.5], [math.nan, 1e200]),
    ],
)
def test_valid_rows_names_what_a_label_must_be(labels: str, good: list[float], bad: list[float]) -> None:
    y = np.array(good + bad)
    mask, reasons = valid_rows(np.zeros((len(y), 1)), y, labels=labels, classes=3)  # type: ignore[arg-type]
    assert mask.tolist() == [True] * len(good) + [False] * len(bad)
    assert all(r.startswith("label: expected") for r in reasons)
    assert len(reasons) == len(bad)


@pytest.mark.parametrize("algorithm", ["linear_regression", "logistic_regression", "poisson"])
@pytest.mark.parametrize("mini_batch", [1, 10])
def test_one_feature_taken_as_it_is_is_not_mistaken_for_the_label(algorithm: str, mini_batch: int) -> None:
    rng = np.random.default_rng(14)
    X = rng.normal(size=(2000, 1))
    y = (X[:, 0] > 0).astype(float)
    learner = make(algorithm, {"standardize": False, "mini_batch": mini_batch})
    state = learner.update(learner.init(1), learner.summarize(learner.init(1), X, y))
    above, below = learner.predict(state, np.array([[1.0], [-1.0]]))
    assert above > below + 0.5
    assert len(state.moments.mean) == (algorithm != "logistic_regression")
