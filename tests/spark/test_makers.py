"""The fingerprint of what makes the features: the same after a training that changed only the predictor, another after anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler
from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.models.spark.makers import made_by
from streaming.models.spark.pipeline import load

ROWS = [(("basic", "plus", "pro")[i % 3], float(i % 17), i % 5, float((i * 7) % 11 < 4)) for i in range(60)]


def made(spark: SparkSession, path: Path, rows: list[Any], *, inputs: tuple[str, ...] = ("minutes", "calls"), reg: float = 0.0) -> Any:
    data = spark.createDataFrame(rows, "plan STRING, minutes DOUBLE, calls INT, label DOUBLE")
    # What differs with every training are the uids, which Spark makes up.
    stages = [
        StringIndexer(inputCol="plan", outputCol="plan_index", handleInvalid="keep"),
        OneHotEncoder(inputCols=["plan_index"], outputCols=["plan_vector"]),
        VectorAssembler(inputCols=["plan_vector", *inputs], outputCol="assembled", handleInvalid="keep"),
        StandardScaler(inputCol="assembled", outputCol="features"),
        LogisticRegression(maxIter=2, regParam=reg),
    ]
    Pipeline(stages=stages).fit(data).save(str(path))
    return made_by(load(SavedModel(name="m", version="1", uri=str(path)), spark))


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return made(spark, tmp_path_factory.mktemp("makers") / "first", ROWS)


def test_trained_again_with_another_predictor(spark: SparkSession, tmp_path: Path, first: Any) -> None:
    assert first is not None
    assert made(spark, tmp_path / "again", ROWS, reg=0.5) == first


@pytest.mark.parametrize(
    ("rows", "inputs"),
    [
        (ROWS, ("calls", "minutes")),  # the same width, another order
        ([(plan, minutes * 60, calls, label) for plan, minutes, calls, label in ROWS], ("minutes", "calls")),  # another scale
        (
            [({"pro": "basic", "basic": "pro"}.get(r[0], r[0]), *r[1:]) for r in ROWS][:59],
            ("minutes", "calls"),
        ),  # other categories first
    ],
    ids=["order", "scale", "categories"],
)
def test_anything_else_is_another(spark: SparkSession, tmp_path: Path, first: Any, rows: list[Any], inputs: tuple[str, ...]) -> None:
    assert made(spark, tmp_path / "other", rows, inputs=inputs) != first
