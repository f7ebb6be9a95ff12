"""A folded pipeline answers as Spark ML's own stages do, or it is not used, and says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, classification, clustering, regression
from pyspark.ml import feature as ft
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel
from streaming.models.spark import pipeline
from streaming.models.spark.fold import proof

SCHEMA = "color STRING, size STRING, n INT, x DOUBLE, y DOUBLE, f FLOAT, label DOUBLE, three DOUBLE"
COLORS = ("red", "${env:HOME}", "o'clock \\", "Ü ✓")


@pytest.fixture(scope="module")
def training(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(5)
    rows = [
        (COLORS[int(rng.integers(4))], f"s{int(rng.integers(40))}", int(rng.integers(60)), float(rng.normal()), float(rng.normal() * 100),
         float(np.float32(rng.normal())), float(rng.integers(2)), float(rng.integers(3)))
        for _ in range(300)
    ]  # fmt: skip
    return spark.createDataFrame(rows, SCHEMA).coalesce(1).cache()


def chosen(rng: np.random.Generator, options: list[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def random_pipeline(rng: np.random.Generator) -> Pipeline:
    """Stages with settings drawn at random; every draw is a pipeline that somebody might save."""
    keep = chosen(rng, ["keep", "error"])
    scaler = chosen(rng, [
        lambda: ft.StandardScaler(inputCol="all", outputCol="features", withMean=bool(rng.integers(2)), withStd=bool(rng.integers(2))),
        lambda: ft.MinMaxScaler(inputCol="all", outputCol="features", min=-1.0, max=2.0),
        lambda: ft.MaxAbsScaler(inputCol="all", outputCol="features"),
        lambda: ft.RobustScaler(inputCol="all", outputCol="features", withCentering=bool(rng.integers(2))),
        lambda: ft.Binarizer(inputCol="all", outputCol="features", threshold=float(rng.normal())),
    ])()  # fmt: skip
    last = chosen(rng, [
        lambda: classification.LogisticRegression(maxIter=3, threshold=float(rng.random())),
        lambda: classification.LogisticRegression(maxIter=3, labelCol="three"),
        lambda: classification.LogisticRegression(maxIter=3, labelCol="three", thresholds=[0.0, 0.2, 0.9]),
        lambda: classification.LinearSVC(maxIter=3, threshold=float(rng.normal())),
        lambda: regression.LinearRegression(maxIter=3, elasticNetParam=1.0, regParam=0.05),
        lambda: regression.GeneralizedLinearRegression(family="binomial", link=chosen(rng, ["logit", "cloglog"]), maxIter=2, regParam=0.1),
        lambda: regression.GeneralizedLinearRegression(family="gaussian", maxIter=2, regParam=0.1),
    ])()  # fmt: skip
    stages = [
        ft.StringIndexer(inputCols=["color", "size", "n"], outputCols=["color_i", "size_i", "n_i"], handleInvalid=keep),
        ft.OneHotEncoder(inputCols=["color_i", "size_i"], outputCols=["color_o", "size_o"], handleInvalid=chosen(rng, ["keep", "error"]),
                         dropLast=bool(rng.integers(2))),
        ft.Imputer(inputCols=["n", "x"], outputCols=["n_f", "x_f"], strategy=chosen(rng, ["mean", "median"])),
        ft.Bucketizer(inputCol="y", outputCol="y_b", splits=[-np.inf, -50.0, 0.0, 50.0, chosen(rng, [np.inf, 1e6])],
                      handleInvalid=chosen(rng, ["keep", "error"])),
        ft.Binarizer(inputCol="x_f", outputCol="x_t", threshold=0.0),
        ft.VectorAssembler(inputCols=["color_o", "n_f", "size_o", "x_f", "y_b", "x_t", "f", "n_i"], outputCol="all",
                           handleInvalid=chosen(rng, ["keep", "error"])),
        scaler, last,
    ]  # fmt: skip
    return Pipeline(stages=stages)


def opened(spark: SparkSession, fitted: Any, path: Path) -> pipeline.SparkModel:
    fitted.write().overwrite().save(str(path))
    return pipeline.load(SavedModel(name="m", version="1", uri=str(path)), spark)


def check(model: pipeline.SparkModel, training: DataFrame, rows: int, seed: int) -> None:
    schema = training.drop("label", "three").schema
    decided = model.folding(schema)
    assert decided.folded is not None, decided.why_not
    different = proof.difference(model, decided.folded, proof.generated(model, schema, n=rows, seed=seed))
    assert different is None, f"seed {seed}: {different}"


@pytest.mark.parametrize("seed", [0, 2])
def test_a_random_pipeline_folded_answers_as_its_stages(seed: int, spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    fitted = random_pipeline(np.random.default_rng(seed)).fit(training)
    check(opened(spark, fitted, tmp_path / "m"), training, 300, seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 300))
def test_two_hundred_random_pipelines(seed: int, spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    fitted = random_pipeline(np.random.default_rng(seed)).fit(training)
    check(opened(spark, fitted, tmp_path / "m"), training, 10_000, seed)


@pytest.fixture(scope="module")
def plain(spark: SparkSession, training: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pipeline.SparkModel:
    stages = [ft.VectorAssembler(inputCols=["n", "x"], outputCol="features"), classification.LogisticRegression(maxIter=2)]
    return opened(spark, Pipeline(stages=stages).fit(training), tmp_path_factory.mktemp("fold") / "plain")


def test_an_expression_that_answers_otherwise_is_refused_loudly(
    plain: pipeline.SparkModel, training: DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    right = proof.fold

    def wrong(*given: Any, **named: Any) -> Any:
        made = right(*given, **named)
        return replace(made, prediction=f"(1D - {made.prediction})")

    monkeypatch.setattr(proof, "fold", wrong)
    decided = proof.folding(plain, training.schema)
    assert decided.folded is None
    assert "differ in the label" in decided.why_not
    assert "the guarded pipeline is used" in caplog.text


def test_a_proof_is_done_once(plain: pipeline.SparkModel, training: DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert proof.folding(plain, training.schema).folded is not None
    monkeypatch.setattr(proof, "difference", lambda *_: pytest.fail("proven again"))
    assert proof.folding(plain, training.schema).folded is not None


def test_the_stage_that_prevents_it_is_named_and_the_guard_scores(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    stages = [ft.VectorAssembler(inputCols=["n", "x"], outputCol="features"), clustering.GaussianMixture(k=2, maxIter=1, seed=1)]
    model = opened(spark, Pipeline(stages=stages).fit(training), tmp_path / "m")
    assert "a GaussianMixtureModel is not folded" in model.folding(training.schema).why_not
    assert model.transform(training.limit(3)).where(F.col("error").isNull()).count() == 3


def test_never_means_never(plain: pipeline.SparkModel, training: DataFrame) -> None:
    assert replace(plain, fold="never").folding(training.schema).why_not == "model.fold is never"


def test_an_array_of_the_event_is_a_vector_or_a_rejected_row(spark: SparkSession, tmp_path: Path) -> None:
    made = spark.createDataFrame([(Vectors.dense(float(i), float(i % 3)), float(i % 2)) for i in range(20)], ["given", "label"])
    model = opened(spark, Pipeline(stages=[classification.LogisticRegression(featuresCol="given", maxIter=2)]).fit(made), tmp_path / "m")
    events = spark.createDataFrame([([1.0, 2.0],), ([1.0],), (None,), ([1.0, None],)], "given array<double>")
    assert model.folding(events.schema).folded is not None
    assert [row["error"] is None for row in model.transform(events).collect()] == [True, False, False, False]
