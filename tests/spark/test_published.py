"""The score lane's SQL gives NumPy's answers for every kind of weights, and the weights file never changes its length while it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from streaming.errors import TransientError
from streaming.learning import weights_file
from streaming.online.weights import Weights, WeightsKind
from streaming.runtime.files import LocalFolder

D = 7
RNG = np.random.default_rng(11)


def weights(kind: WeightsKind, scale: float = 1.0) -> Weights:
    if kind == "nearest":
        return Weights(kind, RNG.normal(size=(4, D)) * scale, None)
    if kind == "softmax":
        return Weights(kind, RNG.normal(size=(5, D)) * scale, RNG.normal(size=5))
    return Weights(kind, RNG.normal(size=D) * scale, np.asarray(RNG.normal()))


#: Gentle weights, and some that saturate every exponential. Names with all that a name may have.
MODELS: dict[str, tuple[str, Weights]] = {
    f"{kind}.v-2_{scale:g}": (f"{i}", weights(kind, scale))
    for i, (kind, scale) in enumerate((k, s) for k in ("linear", "logistic", "poisson", "softmax", "nearest") for s in (1.0, 300.0))
}
X = np.vstack([RNG.normal(size=(150, D)), RNG.normal(size=(50, D)) * 1e3, np.zeros((1, D)), RNG.normal(size=(20, D)) * 1e-9])


@pytest.fixture(scope="module")
def answers(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Every row scored by every learner, in one job, through the file as the score lane reads it."""
    folder = LocalFolder(tmp_path_factory.mktemp("weights"))
    weights_file.publish(folder, "t", MODELS, restart=True)
    rows = [("t", i, x.tolist()) for i, x in enumerate(X)]
    rows += [("t", 1000, [1.0] * (D - 1)), ("t", 1001, [1.0] * (D + 1)), ("t", 1002, []), ("t", 1003, None), ("other", 1004, X[0].tolist())]
    events = spark.createDataFrame(rows, "topic STRING, i INT, features ARRAY<DOUBLE>").coalesce(1)
    frame = weights_file.frame(spark, str(folder.path / weights_file.FILE))
    joined = events.join(frame, events["topic"] == frame["_topic"], "left")
    scored = weights_file.score(joined, [*MODELS, "cold"])
    wanted = [*events.columns, "_topic", "_learners", *(weights_file.column(name) for name in (*MODELS, "cold"))]
    assert scored.columns == wanted, "nothing but the answers is added"
    return sorted(scored.collect(), key=lambda row: row["i"])


@pytest.mark.parametrize("name", MODELS)
def test_sql_and_numpy_agree(answers: list[Any], name: str) -> None:
    version, model = MODELS[name]
    scored = [row[weights_file.column(name)] for row in answers[: len(X)]]
    expected = model.predict(X)
    assert {answer["version"] for answer in scored} == {version}
    np.testing.assert_allclose([answer["prediction"] for answer in scored], expected.prediction, rtol=1e-9, atol=1e-9)
    if expected.probability is None:
        assert {answer["probability"] for answer in scored} == {None}
    else:
        np.testing.assert_allclose([answer["probability"] for answer in scored], expected.probability, rtol=1e-9, atol=1e-9)
        assert len({float(p) for p in expected.prediction}) > 1, "a check with one class would see little"


@pytest.mark.parametrize("i", [1000, 1001, 1002, 1003, 1004], ids=["too narrow", "too wide", "empty", "null", "another topic"])
def test_features_that_do_not_fit_get_no_answer(answers: list[Any], i: int) -> None:
    row = next(row for row in answers if row["i"] == i)
    assert {tuple(row[weights_file.column(name)]) for name in MODELS} == {(None, None, None)}


def test_a_learner_without_weights_gives_no_answer(answers: list[Any]) -> None:
    assert {tuple(row[weights_file.column("cold")]) for row in answers} == {(None, None, None)}


def test_equal_scores_go_to_the_first(spark: SparkSession, tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    ties = {"s": ("1", Weights("softmax", np.zeros((3, 1)), np.zeros(3))), "n": ("1", Weights("nearest", np.array([[-1.0], [1.0]]), None)),
            "l": ("1", Weights("logistic", np.zeros(1), np.asarray(0.0)))}  # fmt: skip
    weights_file.publish(folder, "t", ties, restart=True)
    frame = weights_file.frame(spark, str(tmp_path / weights_file.FILE)).selectExpr("*", "array(0D) features")
    row = weights_file.score(frame, list(ties)).first()
    assert row is not None
    zero = np.zeros((1, 1))
    assert (
        [row[weights_file.column(name)]["prediction"] for name in ties]
        == [w.predict(zero).prediction[0] for _, w in ties.values()]
        == [0.0] * 3
    )


def test_the_file_comes_back_bit_for_bit(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    assert weights_file.read(folder) == {}
    weights_file.publish(folder, "t", MODELS)
    back = weights_file.read(folder)
    assert set(back) == set(MODELS)
    for name, (version, model) in MODELS.items():
        assert back[name][0] == version
        assert back[name][1].kind == model.kind
        assert back[name][1].coefficients.tobytes() == model.coefficients.tobytes()
        assert (back[name][1].intercept is None) == (model.intercept is None)
        if model.intercept is not None and back[name][1].intercept is not None:
            assert back[name][1].intercept.tobytes() == model.intercept.tobytes()


def linear(d: int, value: float = 0.1) -> dict[str, tuple[str, Weights]]:
    return {"a": ("1", Weights("linear", np.full(d, value), np.asarray(0.0)))}


def test_the_length_is_fixed_while_it_is_read(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    sizes = set()
    for content in ({}, linear(1), linear(500, 1 / 3), MODELS, linear(2)):
        weights_file.publish(folder, "t", content)
        data = folder.read(weights_file.FILE) or b""
        sizes.add(len(data))
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        assert json.loads(data)["topic"] == "t"
    assert sizes == {65_536}


def test_what_does_not_fit_asks_for_a_restart_which_makes_room(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    weights_file.publish(folder, "t", linear(1))
    before = folder.read(weights_file.FILE)
    with pytest.raises(TransientError, match="restart the job: it then makes room"):
        weights_file.publish(folder, "t", linear(10_000, 1 / 3))
    assert folder.read(weights_file.FILE) == before, "the old weights stay in force"
    weights_file.publish(folder, "t", linear(10_000, 1 / 3), restart=True)
    assert len(folder.read(weights_file.FILE) or b"") == 262_144
    weights_file.publish(folder, "t", linear(1))
    assert len(folder.read(weights_file.FILE) or b"") == 262_144


@pytest.mark.parametrize("extra", [-2, -1, 0, 1])
def test_the_edge_of_the_room(extra: int) -> None:
    text = len(weights_file.line("t", linear(3)).rstrip())
    size = text + 1 + extra
    if extra < 0:
        with pytest.raises(TransientError):
            weights_file.line("t", linear(3), size=size)
    else:
        assert len(weights_file.line("t", linear(3), size=size)) == size


def test_a_number_that_is_not_finite_is_never_published() -> None:
    with pytest.raises(ValueError, match="JSON"):
        weights_file.line("t", linear(2, np.inf))
