"""Learners without weights: what Python answers on a DataFrame is what the learner itself answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming.config.sections import LearnerSection
from streaming.learning import state_file, weights_file
from streaming.online import algorithms
from streaming.runtime.files import LocalFolder

SECTION = LearnerSection.model_validate({"name": "tree", "algorithm": "river", "params": {"model": "tree.HoeffdingTreeClassifier"}})
ROWS = [([1.0, 2.0], "x"), ([3.0, None], "y"), (None, "z"), ([1.0], "short"), ([0.5, 0.5], None)]


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(ROWS, "features ARRAY<DOUBLE>, other STRING")


def answers(rows: DataFrame, folder: Path) -> list[dict[str, object] | None]:
    scored = state_file.score(rows, [SECTION], str(folder)).collect()
    assert sorted(str(r["other"]) for r in scored) == sorted(str(other) for _, other in ROWS)
    by_other = {r["other"]: r[weights_file.column("tree")] for r in scored}
    return [by_other[other] and by_other[other].asDict() for _, other in ROWS]


def test_nothing_published_is_no_answer(rows: DataFrame, tmp_path: Path) -> None:
    assert answers(rows, tmp_path) == [None] * 5


def test_a_new_state_is_in_force_at_the_next_batch(rows: DataFrame, tmp_path: Path) -> None:
    learner = algorithms.make(SECTION.algorithm, SECTION.params)
    chance = np.random.default_rng(3)
    X = chance.normal(size=(200, 2))
    y = (X[:, 0] > 0).astype(float)
    state = learner.init(2)
    scored = state_file.score(rows, [SECTION], str(tmp_path))
    for version in ("7", "8"):
        state = learner.update(state, learner.summarize(state, X, y))
        state_file.publish(LocalFolder(tmp_path), SECTION.name, version, state)
        expected = learner.score(state, np.array([[1.0, 2.0], [0.5, 0.5]]))
        answered = answers(rows, tmp_path)
        assert answered[1:4] == [None, None, None]
        for at, row in enumerate((answered[0], answered[4])):
            assert row == {
                "version": version,
                "prediction": expected.prediction[at],
                "probability": expected.probability[at].tolist(),
            }
        # The plan made before the first version reads the newest, too.
        assert {r[weights_file.column("tree")]["version"] for r in scored.collect() if r["other"] == "x"} == {version}
