"""The figures of quality against scikit-learn's, and the estimate without labels against the truth when it comes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from streaming.monitor import quality
from streaming.monitor.bins import probability
from streaming.monitor.statistics import SCORE, of_scores


def draw(n: int, shift: float = 0.0, seed: int = 0, bend: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score, prediction, label): a model that says sigmoid(bend * x) where the truth is sigmoid(x)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.5, n)
    label = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
    score = 1 / (1 + np.exp(-bend * x))
    return score, (score > 0.5).astype(float), label


def measure(score: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> dict[str, quality.Estimate]:
    vector = quality.of_pairs(prediction, score, label, task="probability")
    return {m.name: m for m in quality.measures(vector, task="probability")}


def test_accuracy_area_and_loss_are_those_of_scikit_learn() -> None:
    score, prediction, label = draw(4000)
    estimates = measure(score, prediction, label)
    assert estimates["accuracy"].value == pytest.approx(metrics.accuracy_score(label, prediction))
    assert estimates["area_under_roc"].value == pytest.approx(metrics.roc_auc_score(label, score), abs=1e-3)  # ties within a hundredth
    assert estimates["log_loss"].value == pytest.approx(metrics.log_loss(label, score), rel=1e-9)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    truth = {name: m.value for name, m in measure(*draw(400_000, seed=99)).items()}
    runs = [measure(*draw(500, seed=seed)) for seed in range(200)]
    for name in ("accuracy", "area_under_roc", "log_loss"):
        hit = np.mean([run[name].low <= truth[name] <= run[name].high for run in runs])
        assert 0.90 <= hit <= 0.99, (name, hit)


@pytest.mark.parametrize("bend", [1.0, 2.5, 0.4])  # calibrated, over-confident, too timid
@pytest.mark.parametrize("shift", [-1.5, 0.7, 2.0])
def test_without_labels_the_estimate_is_within_two_points_when_only_the_inputs_drift(bend: float, shift: float) -> None:
    base = draw(20_000, seed=1, bend=bend)
    worth = quality.calibrated(quality.of_pairs(base[1], base[0], base[2], task="probability"))
    score, prediction, label = draw(20_000, shift, seed=2, bend=bend)
    cells = of_scores(pa.array(score), probability("m"), [([""], np.zeros(len(score), np.int64))]).get("", f"{SCORE}m")
    assert cells is not None
    estimate = {m.name: m.value for m in quality.expected(cells[:100], worth)}
    truth = measure(score, prediction, label)
    assert abs(estimate["accuracy"] - truth["accuracy"].value) <= 0.02
    assert abs(estimate["area_under_roc"] - truth["area_under_roc"].value) <= 0.02


def test_the_estimate_does_not_see_a_concept_that_drifts() -> None:
    score, prediction, label = draw(20_000)
    worth = quality.calibrated(quality.of_pairs(prediction, score, label, task="probability"))
    cells = probability("m").count(pa.array(score), np.zeros(len(score), np.int64), 1)[0]
    estimate = quality.expected(cells[:100], worth)[0].value
    truth = measure(score, prediction, 1 - label)["accuracy"].value
    assert estimate > 0.7 > 0.3 > truth


@pytest.mark.parametrize("task", ["class", "number"])
def test_other_tasks_have_their_own_measures(task: quality.Task) -> None:
    prediction, label = np.array([1.0, 2.0, 3.0, 3.0]), np.array([1.0, 2.0, 2.0, 1.0])
    estimates = {m.name: m.value for m in quality.measures(quality.of_pairs(prediction, prediction, label, task=task), task=task)}
    expected = {"class": {"accuracy": 0.5}, "number": {"rmse": np.sqrt(5 / 4), "mae": 0.75}}[task]
    assert estimates == pytest.approx(expected)


def test_one_class_only_has_no_area_and_nothing_has_no_measure() -> None:
    estimates = measure(np.array([0.2, 0.9]), np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert "area_under_roc" not in estimates
    assert estimates["accuracy"].value == 0.5
    assert quality.measures(np.zeros(quality.width("probability")), task="probability") == []
    assert quality.expected(np.zeros(100), np.full(100, 0.5)) == []


def test_calibration_error_is_what_is_said_against_what_came_true() -> None:
    score, prediction, label = draw(50_000)
    assert measure(score, prediction, label)["calibration_error"].value < 0.02
    score, prediction, label = draw(50_000, bend=3.0)
    assert measure(score, prediction, label)["calibration_error"].value > 0.08
