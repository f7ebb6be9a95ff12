"""Saved pipelines: the same answers as Spark ML on good rows, an error on bad ones, and a stream that goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline, PipelineModel, classification, clustering, regression
from pyspark.ml import feature as ft
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, NullType

from streaming.checks.model import MODEL_CHECKS
from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models.columns import missing
from streaming.models.spark import pipeline
from tests.support.usual import usual

SCHEMA = "id INT, contract STRING, internet STRING, tenure INT, charges DOUBLE"
NAN, INF = math.nan, math.inf

#: One row for each thing that can be wrong in a column; none may stop a job.
BAD: list[tuple[Any, ...]] = [
    (1, None, "fiber", 3, 20.0),
    (2, "never seen", "fiber", 3, 20.0),
    (3, "month", None, 3, 20.0),
    (4, "", "fiber", 3, 20.0),
    (5, "month", "fiber", None, 20.0),
    (6, "month", "fiber", 3, None),
    (7, "month", "fiber", 3, NAN),
    (8, "month", "fiber", 3, INF),
    (9, "month", "fiber", 3, -INF),
    (10, "month", "fiber", 3, 1e308),
    (11, "month", "fiber", 2**31 - 1, -1e308),
    (12, None, None, None, None),
]


def section(uri: Path | str, **other: Any) -> SavedModel:
    return SavedModel(name="m", version="1", uri=str(uri), **other)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    kinds = [("month", "dsl"), ("year", "fiber"), ("two", "none"), ("month", "fiber")]
    rows = [(i, *kinds[i % 4], (i * 37) % 72, ((i * 7919) % 1000) / 10) for i in range(200)]
    return spark.createDataFrame(rows, SCHEMA).coalesce(1).cache()


@pytest.fixture(scope="module")
def training(events: DataFrame) -> DataFrame:
    late = (F.col("tenure") < 24).cast("int") + (F.col("contract") == "month").cast("int")
    return events.withColumn("label", F.least(late, F.lit(1)).cast("double")).withColumn("three", late.cast("double")).cache()


Loaded = Callable[[str], pipeline.SparkModel]


def prepared(*last: Any, invalid: str = "error") -> Pipeline:
    return Pipeline(
        stages=[
            ft.StringIndexer(inputCols=["contract", "internet"], outputCols=["contract_i", "internet_i"], handleInvalid=invalid),
            ft.OneHotEncoder(inputCols=["contract_i", "internet_i"], outputCols=["contract_o", "internet_o"], handleInvalid=invalid),
            ft.VectorAssembler(inputCols=["tenure", "charges"], outputCol="numbers", handleInvalid=invalid),
            ft.MinMaxScaler(inputCol="numbers", outputCol="scaled"),
            ft.VectorAssembler(inputCols=["contract_o", "internet_o", "scaled"], outputCol="features", handleInvalid=invalid),
            *last,
        ]
    )


LAST: dict[str, Callable[[], Any]] = {
    "logistic": lambda: classification.LogisticRegression(maxIter=5),
    "multinomial": lambda: classification.LogisticRegression(labelCol="three", maxIter=5, predictionCol="answer", probabilityCol="chance"),
    "forest": lambda: classification.RandomForestClassifier(numTrees=3, seed=1),
    "gbt": lambda: classification.GBTClassifier(maxIter=2, seed=1),
    "bayes": lambda: classification.NaiveBayes(),
    "mlp": lambda: classification.MultilayerPerceptronClassifier(layers=[6, 4, 2], maxIter=5, seed=1),
    "linear": lambda: regression.LinearRegression(maxIter=5),
    "glm": lambda: regression.GeneralizedLinearRegression(maxIter=3),
    "kmeans": lambda: clustering.KMeans(k=3, seed=1, maxIter=3),
    "cosine": lambda: clustering.KMeans(k=3, seed=1, maxIter=3, distanceMeasure="cosine"),
    "mixture": lambda: clustering.GaussianMixture(k=2, seed=1, maxIter=2),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, training: DataFrame) -> Callable[[str], Path]:
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Path]()
    ready = prepared().fit(training)

    def get(name: str) -> Path:
        if name not in made:
            fitted = LAST[name]().fit(ready.transform(training))
            made[name] = folder / name
            PipelineModel([*ready.stages, fitted]).write().overwrite().save(str(made[name]))
        return made[name]

    return get


@pytest.fixture(scope="module")
def loaded(saved: Callable[[str], Path], spark: SparkSession) -> Loaded:
    """A saved pipeline, vetted and proven once for all tests that only read it."""
    return cache(lambda name: pipeline.load(section(saved(name)), spark))


def plain(path: Path, events: DataFrame, model: pipeline.SparkModel) -> DataFrame:
    """What Spark ML itself says, in the shape of the outputs."""
    scored = PipelineModel.load(str(path)).transform(events)
    p = model.predictor.params
    probability = (
        vector_to_array(F.col(p["probabilityCol"])) if p.get("probabilityCol") in scored.columns else F.lit(None).cast("array<double>")
    )
    return scored.select(
        *events.columns, F.col(p["predictionCol"]).cast("double").alias("prediction"), probability.alias("probability"),
        vector_to_array(p["featuresCol"]).alias("features"), F.lit(None).cast("string").alias("error"),
    )  # fmt: skip


def answers_as_spark_ml(model: pipeline.SparkModel, events: DataFrame, expected: list[Row]) -> None:
    """The guarded stages to the last bit; a folded model but for exp(), which is Java's StrictMath there."""
    columns = ("id", "prediction", "probability", "features", "error")
    assert model.guarded(events).select(*expected[0].asDict()).collect() == expected
    for ours, theirs in zip(model.transform(events).select(*columns).collect(), expected, strict=True):
        assert (ours["id"], ours["error"], ours["prediction"]) == (
            theirs["id"],
            theirs["error"],
            pytest.approx(theirs["prediction"], rel=1e-12),
        )
        for column in ("probability", "features"):
            assert ours[column] == (None if theirs[column] is None else pytest.approx(theirs[column], rel=1e-12))


@pytest.mark.parametrize("name", usual(LAST, {"multinomial", "gbt", "linear", "kmeans"}))
def test_same_answers_as_spark_ml_on_good_rows(name: str, saved: Callable[[str], Path], loaded: Loaded, events: DataFrame) -> None:
    model = loaded(name)
    got = model.transform(events)
    assert got.schema["prediction"].dataType == DoubleType()
    expected = plain(saved(name), events, model).collect()
    answers_as_spark_ml(model, events, expected)
    assert model.runs_in_jvm
    assert not model.why_not_jvm


@pytest.mark.parametrize("name", usual(LAST, {"forest", "bayes", "mlp", "glm", "cosine"}))
def test_bad_rows_get_an_error_and_stop_nothing(name: str, loaded: Loaded, spark: SparkSession) -> None:
    model = loaded(name)
    rows = model.transform(spark.createDataFrame(BAD, SCHEMA)).collect()
    assert [row["id"] for row in rows] == [bad[0] for bad in BAD]
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        assert (row["error"] is None) != (row["prediction"] is None)
        assert row["error"] is None or "never seen" not in row["error"]
    assert by_id[1]["error"].startswith("stage 0 StringIndexerModel (contract, internet -> contract_i, internet_i): contract is null")
    assert by_id[2]["error"].endswith("refuses the value of contract")
    assert by_id[5]["error"].startswith("stage 2 VectorAssembler (tenure, charges -> numbers)")
    assert by_id[5]["error"].endswith("tenure is null")
    assert by_id[7]["error"].endswith("charges is NaN")


@pytest.mark.parametrize("whole_stage", ["true", "false"])
@pytest.mark.parametrize("factory", ["FALLBACK", "NO_CODEGEN"])
def test_guard_holds_compiled_and_interpreted(whole_stage: str, factory: str, loaded: Loaded, spark: SparkSession) -> None:
    model = loaded("forest")
    frame = spark.createDataFrame(BAD, SCHEMA)
    expected = model.transform(frame).drop("charges").collect()  # NaN is not equal to NaN
    options = {"spark.sql.codegen.wholeStage": whole_stage, "spark.sql.codegen.factoryMode": factory}
    for key, value in options.items():
        spark.conf.set(key, value)
    try:
        assert model.transform(frame).drop("charges").collect() == expected
    finally:
        for key in options:
            spark.conf.unset(key)


def test_a_stream_goes_on_after_bad_rows(loaded: Loaded, spark: SparkSession, tmp_path: Path) -> None:
    model = loaded("logistic")
    source = tmp_path / "events"
    good = [(20, "year", "dsl", 5, 10.0)]
    for batch in (BAD, good, BAD, good):
        spark.createDataFrame(batch, SCHEMA).coalesce(1).write.mode("append").parquet(str(source))
    stream = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(str(source))
    query = (
        model.transform(stream).writeStream.format("parquet").option("path", str(tmp_path / "out"))
        .option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start()
    )  # fmt: skip
    assert query.awaitTermination(60)
    assert query.exception() is None
    out = spark.read.parquet(str(tmp_path / "out"))
    assert out.count() == 2 * len(BAD) + 2
    assert out.filter("id = 20 AND error IS NULL AND prediction IS NOT NULL").count() == 2


def test_inputs_are_the_columns_read_and_missing_says_what_lacks(loaded: Loaded, spark: SparkSession, events: DataFrame) -> None:
    model = loaded("logistic")
    types = {f.name: f.dataType for f in model.inputs().fields}
    assert types == {"contract": NullType(), "internet": NullType(), "tenure": DoubleType(), "charges": DoubleType()}
    assert missing(model, events.schema) == []
    renamed = events.withColumnRenamed("tenure", "tenure_months").withColumn("charges", F.lit("x"))
    assert missing(model, renamed.schema) == [
        "the pipeline reads column 'tenure' (numeric); the event has no such field; it has: id, contract, internet, tenure_months, charges; "
        "did you mean 'tenure_months'?",
        "the pipeline reads column 'charges' (numeric); the event has it as string",
    ]
    with pytest.raises(ModelError, match="did you mean 'tenure_months'"):
        model.transform(renamed)


def test_event_columns_never_meet_the_columns_of_the_pipeline(loaded: Loaded, spark: SparkSession, events: DataFrame) -> None:
    model = loaded("multinomial")
    crowded = events.withColumns(
        {"answer": F.lit("mine"), "numbers": F.lit(7), "rawPrediction": F.lit(8), "a.b": F.lit(9), "label": F.lit(None)}
    )
    got = model.transform(crowded)
    assert got.columns == [*crowded.columns, "prediction", "probability", "features", "error"]
    assert got.select(*events.columns, "prediction", "probability").collect() == model.transform(events).drop("features", "error").collect()
    assert {(row["answer"], row["numbers"], row["a.b"]) for row in got.collect()} == {("mine", 7, 9)}
    with pytest.raises(ModelError, match=r"has a column 'prediction'.*events\.columns"):
        model.transform(events.withColumn("prediction", F.lit(1)))


def test_the_label_of_training_is_not_asked_of_an_event(
    training: DataFrame, spark: SparkSession, tmp_path: Path, events: DataFrame
) -> None:
    words = training.withColumn("word", F.when(F.col("label") == 1, "yes").otherwise("no"))
    last = [
        ft.StringIndexer(inputCol="word", outputCol="word_i"),
        classification.LogisticRegression(labelCol="word_i", maxIter=2),
        ft.IndexToString(inputCol="prediction", outputCol="said", labels=["a", "b"]),
    ]
    fitted = prepared(*last).fit(words)
    fitted.write().save(str(tmp_path / "m"))
    model = pipeline.load(section(tmp_path / "m"), spark)
    assert "word" not in model.inputs().fieldNames()
    answers_as_spark_ml(model, events.withColumn("word", F.lit(None).cast("string")), plain(tmp_path / "m", events, model).collect())


def test_pipeline_inside_a_pipeline_and_a_stage_alone(training: DataFrame, spark: SparkSession, tmp_path: Path, events: DataFrame) -> None:
    features = prepared().fit(training)
    ready = features.transform(training)
    last = classification.LogisticRegression(maxIter=2).fit(ready)
    PipelineModel([features, PipelineModel([last])]).write().save(str(tmp_path / "nested"))
    last.write().save(str(tmp_path / "alone"))
    nested, alone = pipeline.load(section(tmp_path / "nested"), spark), pipeline.load(section(tmp_path / "alone"), spark)
    answers_as_spark_ml(nested, events, plain(tmp_path / "nested", events, nested).collect())
    assert [stage.index for stage in nested.stages] == list(range(6))
    assert alone.inputs().fields[0].dataType == ArrayType(DoubleType())
    with pytest.raises(ModelError, match="a name under which the model answers"):
        alone.transform(ready.select("id", "features"))
    assert pipeline.last_stage(nested).coefficients == last.coefficients
    assert type(pipeline.last_stage(nested)) is type(last)


@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", usual(["logistic", "linear", "kmeans"], {"logistic"}))
def test_contract(name: str, check: Any, loaded: Loaded, events: DataFrame) -> None:
    check(loaded(name), events)
