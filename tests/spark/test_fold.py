"""A folded pipeline answers as Spark ML's own stages do, or it is not used, and says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.ml import Pipeline, classification, clustering, regression
from pyspark.ml import feature as ft
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel
from streaming.models.spark import pipeline, statement
from streaming.models.spark.fold import proof, wide
from tests.support import random_pipelines
from tests.support.usual import usual


@pytest.fixture(scope="module")
def training(spark: SparkSession) -> DataFrame:
    return random_pipelines.training(spark)


def opened(spark: SparkSession, fitted: Any, path: Path) -> pipeline.SparkModel:
    fitted.write().overwrite().save(str(path))
    return pipeline.load(SavedModel(name="m", version="1", uri=str(path)), spark)


def check(model: pipeline.SparkModel, training: DataFrame, rows: int, seed: int) -> None:
    schema = training.drop("label", "three").schema
    decided = model.folding(schema)
    assert decided.folded is not None, decided.why_not
    different = proof.difference(model, decided.folded, proof.generated(model, schema, n=rows, seed=seed))
    assert different is None, f"seed {seed}: {different}"


#: Predictor -> seed: between them these draws hold a formula, statements, products of columns, trees, a network, and a threshold of zero.
DRAWS = {
    "RandomForestClassifier": 0,
    "LogisticRegression of three": 2,
    "MultilayerPerceptronClassifier": 3,
    "LogisticRegression with thresholds": 15,
}


@pytest.mark.parametrize("last", usual(DRAWS, {"RandomForestClassifier"}))
def test_a_random_pipeline_folded_answers_as_its_stages(last: str, spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    seed = DRAWS[last]
    fitted = random_pipelines.random_pipeline(np.random.default_rng(seed), last=last).fit(training)
    check(opened(spark, fitted, tmp_path / "m"), training, 300, seed)


@pytest.mark.campaign
@pytest.mark.timeout(7_200)
def test_two_hundred_random_pipelines_of_ten_thousand_rows(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    """Every predictor ten times, the stages before it drawn at random."""
    names = sorted(random_pipelines.PREDICTORS)
    checked, unfit, seed = 0, 0, 0
    while checked < 200:
        drawn = random_pipelines.random_pipeline(np.random.default_rng(seed), last=names[checked % len(names)])
        try:
            fitted = drawn.fit(training)
        except (Py4JError, PySparkException):  # Spark ML itself cannot train every draw; another one takes its place
            unfit += 1
        else:
            check(opened(spark, fitted, tmp_path / "m"), training, 10_000, seed)
            checked += 1
        seed += 1
    assert unfit <= 20, f"{unfit} draws could not be trained: the draws are not pipelines that somebody might save"


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


def test_rows_without_any_answer_prove_nothing(
    plain: pipeline.SparkModel, training: DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    right = proof.generated
    monkeypatch.setattr(proof, "generated", lambda *given: right(*given).withColumn("x", F.lit(None).cast("double")))
    decided = proof.folding(plain, training.schema)
    assert decided.folded is None
    assert "none of 500 generated rows has an answer" in decided.why_not


def test_a_proof_is_done_once(plain: pipeline.SparkModel, training: DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert proof.folding(plain, training.schema).folded is not None
    monkeypatch.setattr(proof, "difference", lambda *_: pytest.fail("proven again"))
    assert proof.folding(plain, training.schema).folded is not None


def test_the_stage_that_prevents_it_is_named_and_the_guard_scores(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    stages = [ft.FeatureHasher(inputCols=["n", "color"], outputCol="features", numFeatures=8), classification.LogisticRegression(maxIter=2)]
    model = opened(spark, Pipeline(stages=stages).fit(training), tmp_path / "m")
    assert "a FeatureHasher is not folded" in model.folding(training.schema).why_not
    assert model.transform(training.limit(3)).where(F.col("error").isNull()).count() == 3


def test_a_statement_that_fails_on_a_row_is_that_rows_error(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    stages = [
        ft.SQLTransformer(statement="SELECT *, x / n AS ratio FROM __THIS__"),
        ft.VectorAssembler(inputCols=["ratio"], outputCol="features"),
        regression.DecisionTreeRegressor(maxDepth=2),
    ]
    model = opened(spark, Pipeline(stages=stages).fit(training.where("n != 0")), tmp_path / "m")
    events = spark.createDataFrame([(1.0, 1), (1.0, 0), (None, 1)], "x DOUBLE, n INT")
    assert model.folding(events.schema).folded is not None
    errors = [row["error"] for row in model.transform(events).collect()]
    assert [error is None for error in errors] == [True, False, False]
    assert "SQLTransformer" in errors[1]


def test_a_statement_whose_answer_changes_is_not_folded(
    spark: SparkSession, training: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No such function is on the list; should one ever come onto it, it is still not folded.
    monkeypatch.setattr(statement, "ALLOWED", statement.ALLOWED | {"rand"})
    stages = [
        ft.SQLTransformer(statement="SELECT *, x + rand() AS noise FROM __THIS__"),
        ft.VectorAssembler(inputCols=["noise"], outputCol="features"),
        regression.DecisionTreeRegressor(maxDepth=2),
    ]
    model = opened(spark, Pipeline(stages=stages).fit(training), tmp_path / "m")
    assert "noise differs from run to run" in model.folding(training.schema).why_not


def test_what_the_older_api_saved_is_loaded_and_folded(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    stages = [ft.VectorAssembler(inputCols=["n", "x"], outputCol="features"), clustering.BisectingKMeans(k=3, maxIter=2, seed=1)]
    check(opened(spark, Pipeline(stages=stages).fit(training), tmp_path / "m"), training.select("n", "x", "label", "three"), 100, 0)


#: More than are written out one by one.
COLUMNS = wide.WIDE + 6


@pytest.fixture(scope="module")
def many(spark: SparkSession) -> DataFrame:
    rng = np.random.default_rng(3)
    names = [f"w{i}" for i in range(COLUMNS)]
    rows = [(*map(float, rng.normal(size=COLUMNS)), chr(97 + i % 3), float(i % 2), float(i % 3)) for i in range(60)]
    return spark.createDataFrame(rows, ", ".join([*(f"`{n}` DOUBLE" for n in names), "c STRING", "label DOUBLE", "three DOUBLE"])).coalesce(
        1
    )


WIDE: dict[str, Callable[[], list[Any]]] = {
    "linear": lambda: [
        ft.StandardScaler(inputCol="all", outputCol="features", withMean=True),
        classification.LogisticRegression(maxIter=3),
    ],
    "sparse weights": lambda: [
        ft.RobustScaler(inputCol="all", outputCol="features"),
        regression.LinearRegression(maxIter=5, elasticNetParam=1.0, regParam=0.1),
    ],
    "of three": lambda: [
        ft.MinMaxScaler(inputCol="all", outputCol="features"),
        classification.LogisticRegression(maxIter=3, labelCol="three"),
    ],
    "trees": lambda: [classification.RandomForestClassifier(featuresCol="all", numTrees=3, maxDepth=3, seed=1)],
    "projected": lambda: [
        ft.PCA(inputCol="all", outputCol="features", k=3),
        regression.GeneralizedLinearRegression(maxIter=2, regParam=0.1),
    ],
}


@pytest.mark.parametrize("handling", usual(["error", "keep"], {"error"}))
@pytest.mark.parametrize("last", usual(WIDE, {"linear"}))
def test_many_numbers_are_packed_and_answer_as_the_stages(
    last: str, handling: str, spark: SparkSession, many: DataFrame, tmp_path: Path
) -> None:
    numbers = [name for name in many.columns if name.startswith("w")]
    stages = [
        ft.StringIndexer(inputCol="c", outputCol="ci", handleInvalid="keep"),
        ft.OneHotEncoder(inputCol="ci", outputCol="co"),
        ft.VectorAssembler(inputCols=[*numbers[2:], "co", *numbers[:2]], outputCol="all", handleInvalid=handling),
        *WIDE[last](),
    ]
    model = opened(spark, Pipeline(stages=stages).fit(many), tmp_path / "m")
    check(model, many, 200, 1)


def test_of_many_columns_the_odd_one_is_named(spark: SparkSession, many: DataFrame, tmp_path: Path) -> None:
    numbers = [name for name in many.columns if name.startswith("w")]
    stages = [ft.VectorAssembler(inputCols=numbers[::-1], outputCol="features"), classification.LogisticRegression(maxIter=2)]
    model = opened(spark, Pipeline(stages=stages).fit(many), tmp_path / "m")
    one = many.select(*numbers).limit(1)
    odd = [
        {},
        {"w7": F.lit(None).cast("double")},
        {"w12": F.lit(float("nan"))},
        {"w69": F.lit(float("nan")), "w42": F.lit(None).cast("double")},
    ]
    events = reduce(DataFrame.union, [one.withColumns(each) if each else one for each in odd]).coalesce(1)
    said = [row["error"] for row in model.transform(events).select("error").collect()]
    assert said == [row["error"] for row in model.guarded(events).select("error").collect()]
    assert said[0] is None
    assert [text.rsplit(": ")[-1] for text in said[1:]] == ["w7 is null", "w12 is NaN", "w42 is null"]


def test_never_means_never(plain: pipeline.SparkModel, training: DataFrame) -> None:
    assert replace(plain, fold="never").folding(training.schema).why_not == "model.fold is never"


def test_an_array_of_the_event_is_a_vector_or_a_rejected_row(spark: SparkSession, tmp_path: Path) -> None:
    made = spark.createDataFrame([(Vectors.dense(float(i), float(i % 3)), float(i % 2)) for i in range(20)], ["given", "label"])
    model = opened(spark, Pipeline(stages=[classification.LogisticRegression(featuresCol="given", maxIter=2)]).fit(made), tmp_path / "m")
    events = spark.createDataFrame([([1.0, 2.0],), ([1.0],), (None,), ([1.0, None],)], "given array<double>")
    assert model.folding(events.schema).folded is not None
    assert [row["error"] is None for row in model.transform(events).collect()] == [True, False, False, False]
