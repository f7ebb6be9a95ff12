"""Prequential metrics against scikit-learn, and the verdict on a learner that has gone astray."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.online import metrics
from streaming.online.divergence import Batch, DivergenceWatch, LabelBaseline
from streaming.online.weights import Scored, Weights


def _binary(n: int, seed: int) -> tuple[np.ndarray, Scored]:
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p).astype(float), Scored((p > 0.5).astype(float), np.column_stack([1 - p, p]))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(20, 400), cut=st.integers(0, 400), seed=st.integers(0, 999))
def test_binary_metrics_are_scikit_learns_and_add_up(n: int, cut: int, seed: int) -> None:
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    y, scored = _binary(n, seed)
    y[:2] = [0.0, 1.0]
    assert scored.probability is not None
    parts = [metrics.tally("binary", y[s], Scored(scored.prediction[s], scored.probability[s])) for s in (slice(0, cut), slice(cut, None))]
    total = metrics.merge(*parts)
    report = metrics.report("binary", total)
    area, error = metrics.auc(total)
    assert report["accuracy"] == pytest.approx(accuracy_score(y, scored.prediction))
    assert report["log_loss"] == pytest.approx(log_loss(y, scored.probability[:, 1]))
    assert area == pytest.approx(roc_auc_score(y, scored.probability[:, 1]), abs=error + 1e-12)
    # Two rows of different classes in one bin are one pair that the bound cannot order: with few rows one pair weighs much.
    assert error < 0.01 + 2 / (y.sum() * (n - y.sum()))


def test_auc_needs_both_classes_and_is_a_half_for_ties() -> None:
    same = Scored(np.zeros(2), np.full((2, 2), 0.5))
    assert metrics.auc(metrics.tally("binary", np.array([0.0, 1.0]), same)) == (0.5, 0.5)
    assert math.isnan(metrics.auc(metrics.tally("binary", np.array([1.0, 1.0]), same))[0])


def test_regression_metrics() -> None:
    t = metrics.tally("number", np.array([1.0, 2.0]), Scored(np.array([2.0, 5.0]), None))
    assert metrics.report("number", t) == {"mae": 2.0, "rmse": pytest.approx(math.sqrt(5.0))}
    assert metrics.report("number", metrics.nothing()) == {}


def test_poisson_loss_is_half_of_scikit_learns_deviance() -> None:
    from sklearn.metrics import mean_poisson_deviance

    y, rate = np.array([0.0, 3.0, 7.0]), np.array([0.5, 2.0, 9.0])
    assert 2 * metrics.loss("count", y, Scored(rate, None)).mean() == pytest.approx(mean_poisson_deviance(y, rate))


def test_a_window_keeps_the_newest_rows() -> None:
    window = metrics.TallyWindow(rows=10)
    for i in range(6):
        window = window.push(metrics.tally("number", np.zeros(4), Scored(np.full(4, float(i)), None)))
    total = window.total()
    assert total.n == 12
    assert total.absolute == 4 * (3 + 4 + 5)
    assert window.push(metrics.nothing()).total().n == 12


def test_a_learner_worse_than_the_mean_has_diverged() -> None:
    rng = np.random.default_rng(0)
    watch, baseline, verdicts = DivergenceWatch(window=300), LabelBaseline.start(0), []
    for i in range(20):
        y = rng.normal(size=50)
        scored = Scored(y + rng.normal(size=50) * (0.1 if i < 10 else 20.0), None)
        watch = watch.update(Batch(50, float(metrics.loss("number", y, scored).sum()), float(baseline.losses("number", y).sum())))
        baseline = baseline.learn(y)
        verdicts.append(watch.verdict().status)
    assert set(verdicts[:10]) == {"ok"}
    assert verdicts[-1] == "diverged"


def test_the_baseline_of_classes_is_their_share_so_far() -> None:
    baseline = LabelBaseline.start(2).learn(np.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(baseline.losses("binary", np.array([1.0, 0.0])), [-math.log(3 / 5), -math.log(2 / 5)])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_has_diverged_at_once(bad: float) -> None:
    assert DivergenceWatch().verdict(Weights("linear", np.array([bad]), np.array(0.0))).status == "diverged"
    assert DivergenceWatch().update(Batch(1, bad, 1.0)).verdict().status == "diverged"
    assert DivergenceWatch().verdict(Weights("linear", np.array([1.0]), np.array(0.0))).status == "ok"
