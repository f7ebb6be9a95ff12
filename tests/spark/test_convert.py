"""Spark pipelines and their ONNX forms: the same answers on odd rows, and the same rows refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel, classification, clustering, regression
from pyspark.ml import feature as ft
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel
from streaming.convert import package
from streaming.convert.spark import answers
from streaming.convert.spark import pipeline as converter
from streaming.errors import ModelError
from streaming.models import manifest
from streaming.models.spark import pipeline as sparkml
from streaming.scorers import columns, compare
from streaming.scorers.base import Scores
from streaming.scorers.onnx import PackageScorer, open_onnx
from tests.support.usual import usual

#: Few enough to be quick; the command compares 10,000.
ROWS = 2000


@pytest.fixture(scope="module")
def training(spark: SparkSession) -> DataFrame:
    kinds = [("month", "dsl"), ("year", "fiber"), ("two", "none"), ("month", "fiber")]
    rows = [(*kinds[i % 4], (i * 37) % 72, ((i * 7919) % 1000) / 10, float(i % 5)) for i in range(300)]
    made = spark.createDataFrame(rows, "contract STRING, internet STRING, tenure INT, charges DOUBLE, level DOUBLE").coalesce(1)
    late = (F.col("tenure") < 24).cast("int") + (F.col("contract") == "month").cast("int")
    made = made.withColumn("label", F.least(late, F.lit(1)).cast("double")).withColumn("three", late.cast("double"))
    return (
        made.withColumn("flag", (F.col("level") > 2).cast("double")).withColumn("v", array_to_vector(F.array("charges", "level"))).cache()
    )


def prepared(*last: Any, invalid: str = "error", scaler: Any = None) -> Pipeline:
    return Pipeline(
        stages=[
            ft.StringIndexer(inputCols=["contract", "internet"], outputCols=["contract_i", "internet_i"], handleInvalid=invalid),
            ft.OneHotEncoder(inputCols=["contract_i"], outputCols=["contract_o"], handleInvalid=invalid),
            ft.VectorAssembler(inputCols=["tenure", "charges"], outputCol="numbers", handleInvalid=invalid),
            scaler or ft.MinMaxScaler(inputCol="numbers", outputCol="scaled"),
            ft.VectorAssembler(inputCols=["contract_o", "internet_i", "scaled"], outputCol="features", handleInvalid=invalid),
            *last,
        ]
    )


def numbers_alone() -> Pipeline:
    infinite = math.inf
    return Pipeline(
        stages=[
            ft.Imputer(inputCols=["tenure", "charges"], outputCols=["t", "c"], missingValue=0.0),
            ft.Bucketizer(inputCol="c", outputCol="b", splits=[-infinite, 0, 30, 60, infinite]),
            ft.Bucketizer(inputCols=["level"], outputCols=["l"], splitsArray=[[-1e9, 0, 30, 1e9]], handleInvalid="keep"),
            ft.OneHotEncoder(inputCols=["b", "level"], outputCols=["bo", "lo"], handleInvalid="keep", dropLast=False),
            ft.VectorAssembler(inputCols=["t", "bo", "lo", "l"], outputCol="features", handleInvalid="keep"),
            regression.LinearRegression(labelCol="charges", regParam=0.1),
        ]
    )


def bernoulli() -> Pipeline:
    return Pipeline(
        stages=[
            ft.Binarizer(inputCol="charges", outputCol="high", threshold=30.0),
            ft.StringIndexer(inputCol="contract", outputCol="c", handleInvalid="keep"),
            ft.OneHotEncoder(inputCol="c", outputCol="co", dropLast=False),
            ft.VectorAssembler(inputCols=["high", "co", "flag"], outputCol="features", handleInvalid="keep"),
            classification.NaiveBayes(modelType="bernoulli", labelCol="three"),
        ]
    )


def stacked() -> Pipeline:
    first = classification.LogisticRegression(maxIter=3, predictionCol="p1", probabilityCol="q1", rawPredictionCol="r1")
    both = ft.VectorAssembler(inputCols=["p1", "q1", "charges"], outputCol="f2")
    return prepared(first, both, regression.LinearRegression(featuresCol="f2", labelCol="tenure", predictionCol="p2"))


def vector_input() -> Pipeline:
    return Pipeline(stages=[ft.StandardScaler(inputCol="v", outputCol="s", withMean=True), clustering.KMeans(featuresCol="s", k=3, seed=1)])


C, R = classification, regression
MODELS: dict[str, Callable[[], Pipeline]] = {
    "logistic": lambda: prepared(C.LogisticRegression(maxIter=5, threshold=0.3)),
    "logistic sparse, keep": lambda: prepared(C.LogisticRegression(maxIter=5, regParam=0.2, elasticNetParam=1.0), invalid="keep"),
    "multinomial": lambda: prepared(C.LogisticRegression(labelCol="three", maxIter=5, predictionCol="answer", probabilityCol="chance")),
    "multinomial with thresholds": lambda: prepared(C.LogisticRegression(labelCol="three", maxIter=5, thresholds=[0.2, 0.5, 0.3])),
    "svc": lambda: prepared(C.LinearSVC(maxIter=5, threshold=0.1)),
    "tree": lambda: prepared(C.DecisionTreeClassifier(labelCol="three")),
    "forest, keep": lambda: prepared(C.RandomForestClassifier(labelCol="three", numTrees=7, seed=1), invalid="keep"),
    "gbt": lambda: prepared(C.GBTClassifier(maxIter=3, seed=1)),
    "tree regressor": lambda: prepared(R.DecisionTreeRegressor(labelCol="charges")),
    "forest regressor": lambda: prepared(R.RandomForestRegressor(labelCol="charges", numTrees=5, seed=1)),
    "gbt regressor, keep": lambda: prepared(R.GBTRegressor(labelCol="charges", maxIter=3, seed=1), invalid="keep"),
    "poisson with offset": lambda: prepared(
        R.GeneralizedLinearRegression(labelCol="three", family="poisson", offsetCol="level", maxIter=3),
        scaler=ft.StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True),
    ),
    "cloglog": lambda: prepared(
        R.GeneralizedLinearRegression(family="binomial", link="cloglog", maxIter=3),
        scaler=ft.MaxAbsScaler(inputCol="numbers", outputCol="scaled"),
    ),
    "tweedie": lambda: prepared(
        R.GeneralizedLinearRegression(labelCol="tenure", family="tweedie", variancePower=1.5, maxIter=2),
        scaler=ft.PCA(k=1, inputCol="numbers", outputCol="scaled"),
    ),
    "gaussian bayes": lambda: prepared(C.NaiveBayes(modelType="gaussian", labelCol="three")),
    "multinomial bayes": lambda: prepared(C.NaiveBayes(labelCol="three"), scaler=ft.Normalizer(inputCol="numbers", outputCol="scaled")),
    "complement bayes": lambda: prepared(
        C.NaiveBayes(modelType="complement", labelCol="three"), scaler=ft.Normalizer(p=1.0, inputCol="numbers", outputCol="scaled")
    ),
    "bernoulli bayes": bernoulli,
    "perceptron": lambda: prepared(C.MultilayerPerceptronClassifier(layers=[5, 4, 3], labelCol="three", maxIter=5, seed=1)),
    "kmeans, keep": lambda: prepared(clustering.KMeans(k=3, seed=1), invalid="keep"),
    "kmeans of a vector": vector_input,
    "imputer and buckets": numbers_alone,
    "stacked": stacked,
}


def section(uri: Path | str) -> SavedModel:
    return SavedModel(name="m", version="1", uri=str(uri))


def saved(pipeline: Pipeline, training: DataFrame, path: Path) -> SavedModel:
    pipeline.fit(training).write().overwrite().save(str(path))
    return section(path)


@pytest.mark.parametrize("name", usual(MODELS, {"logistic", "forest, keep", "gbt", "imputer and buckets"}))
def test_the_portable_form_answers_as_the_original_does(name: str, spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    made = package.make(saved(MODELS[name](), training, tmp_path / "model"), spark, n_rows=ROWS)
    (report,) = made.reports
    assert report.rows == ROWS
    assert report.ok  # labels and refused rows are equal, numbers to 1e-9
    assert report.rejected > 0 or "keep" in name
    assert report.rejected < ROWS


@pytest.fixture(scope="module")
def logistic(spark: SparkSession, training: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A pipeline with a training manifest."""
    path = tmp_path_factory.mktemp("logistic") / "model"
    made = saved(MODELS["logistic"](), training, path)
    details = {
        "features": {"schema": "contract STRING, internet STRING, tenure INT, charges DOUBLE"},
        "label": {"column": "churn", "classes": {"stays": 0, "leaves": 1}},
    }
    manifest.write(spark, str(path), details)
    return made


@pytest.fixture(scope="module")
def packaged(logistic: SavedModel, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> PackageScorer:
    folder = package.build(logistic, spark, tmp_path_factory.mktemp("package") / "churn")
    opened = open_onnx(folder)
    assert isinstance(opened, PackageScorer)
    return opened


ASKED = [
    {"contract": "month", "internet": "dsl", "tenure": 3, "charges": 20.0},
    {"contract": "never seen", "internet": "dsl", "tenure": 3, "charges": 20.0},
    {"contract": "year", "internet": None, "tenure": 60, "charges": 70.0},
    {"contract": "year", "internet": "dsl", "tenure": None, "charges": 70.0},
    {"contract": "two", "internet": "none", "tenure": 71, "charges": 99.5},
]


def test_why_a_row_cannot_be_scored_names_stage_and_column(packaged: PackageScorer) -> None:
    errors = packaged.score(columns.from_rows(ASKED, packaged.inputs())).error
    assert [said and said.split(": ")[1] for said in errors] == [
        None,
        "refuses the value of contract",
        "internet is null",
        "tenure is null",
        None,
    ]
    assert all(said is None or said.startswith("stage ") for said in errors)


def test_contributions_add_up_to_the_log_odds(packaged: PackageScorer) -> None:
    asked = columns.from_rows(ASKED, packaged.inputs())
    parts = packaged.contributions(asked)
    assert parts is not None
    assert list(parts) == ["contract", "internet", "tenure", "charges"]
    probability = packaged.score(asked).probability
    assert probability is not None
    log_odds = np.log(probability[:, 1]) - np.log(probability[:, 0])
    np.testing.assert_allclose(sum(parts.values()) + packaged.manifest["linear"]["intercept"], log_odds, atol=1e-12)
    assert np.isnan(parts["tenure"][1])


def test_the_manifest_tells_what_the_model_is(packaged: PackageScorer, logistic: SavedModel) -> None:
    told = packaged.manifest
    assert told["classes"] == ["stays", "leaves"]
    assert told["source"]["sha256"] == told["source"]["manifest"]["sha256"]
    assert [(column["name"], column["kind"], column.get("type")) for column in told["inputs"]] == [
        ("contract", "text", "string"),
        ("internet", "text", "string"),
        ("tenure", "number", "int"),
        ("charges", "number", "double"),
    ]
    assert told["parity"][0]["rows"] == compare.ROWS
    assert packaged.categories()["contract"] == ["month", "two", "year"]
    assert json.loads(json.dumps(told)) == told


def test_every_stage_without_a_portable_form_is_named(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    pipeline = Pipeline(
        stages=[
            ft.Tokenizer(inputCol="contract", outputCol="words"),
            ft.HashingTF(inputCol="words", outputCol="features", numFeatures=16),
            C.FMClassifier(maxIter=1),
        ]
    )
    with pytest.raises(ModelError) as refused:
        package.make(saved(pipeline, training, tmp_path / "model"), spark)
    for stage in ("stage 0 Tokenizer", "stage 1 HashingTF", "stage 2 FMClassificationModel"):
        assert stage in str(refused.value)


def test_a_setting_without_a_portable_form_is_named(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    pipeline = prepared(clustering.KMeans(k=2, seed=1, distanceMeasure="cosine"))
    with pytest.raises(ModelError, match=r"stage 5 KMeansModel.*distanceMeasure 'cosine'"):
        package.make(saved(pipeline, training, tmp_path / "model"), spark)


def test_a_form_that_answers_otherwise_is_never_written(
    logistic: SavedModel, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_little_off(*arguments: Any) -> Scores:
        true = right(*arguments)
        assert true.probability is not None
        return Scores(true.prediction, true.probability + 1e-6, true.error)

    right = answers.scores
    monkeypatch.setattr(answers, "scores", a_little_off)
    with pytest.raises(ModelError, match="does not answer as the original does"):
        package.build(logistic, spark, tmp_path / "package")
    assert list(tmp_path.iterdir()) == []


def test_an_unseen_category_goes_to_the_side_of_the_tree_that_spark_takes(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    tree = C.DecisionTreeClassifier(labelCol="three", maxDepth=4)
    assemble = ft.VectorAssembler(inputCols=["c", "i"], outputCol="features")
    indexed = ft.StringIndexer(inputCols=["contract", "internet"], outputCols=["c", "i"], handleInvalid="keep")
    made = saved(Pipeline(stages=[indexed, assemble, tree]), training.where("contract <> 'two'"), tmp_path / "model")
    assert package.make(made, spark, n_rows=500).reports[0].ok


def test_integers_are_imputed_as_integers(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    fill = ft.Imputer(inputCol="tenure", outputCol="t", strategy="mean")
    assemble = ft.VectorAssembler(inputCols=["t"], outputCol="features")
    made = saved(Pipeline(stages=[fill, assemble, R.LinearRegression(labelCol="charges")]), training, tmp_path / "model")
    manifest.write(spark, made.uri, {"features": {"schema": "tenure INT"}})
    assert package.make(made, spark, n_rows=200).reports[0].ok
    mean = PipelineModel.load(made.uri).stages[0].surrogateDF.first()["tenure"]
    assert mean != math.trunc(mean)  # else the test shows nothing


def test_kinds_follow_the_inputs_of_the_model(logistic: SavedModel, spark: SparkSession) -> None:
    model = sparkml.load(logistic, spark)
    assert converter.kinds_of(model.inputs()) == {"contract": "text", "internet": "text", "tenure": "number", "charges": "number"}
