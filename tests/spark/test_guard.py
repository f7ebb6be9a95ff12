"""The guard by itself: what is null by right, what failed, what may pass, and a contract that broken models fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline, PipelineModel, Transformer
from pyspark.ml import feature as ft
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCol, HasOutputCol
from pyspark.ml.regression import LinearRegression, RandomForestRegressor
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from streaming.checks import model as contract
from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models.spark import pipeline
from streaming.models.spark.guard import Guard
from streaming.models.spark.metadata import Stage
from tests.support.usual import usual

STAGE = Stage(0, "org.elsewhere.Custom", "custom", ("x",), ("y",), {})


def save_and_load(fitted: Any, path: Path, spark: SparkSession) -> pipeline.SparkModel:
    fitted.write().overwrite().save(str(path))
    return pipeline.load(SavedModel(name="m", version="1", uri=str(path)), spark)


def start(spark: SparkSession, rows: list[tuple[Any, ...]], schema: str) -> DataFrame:
    return spark.createDataFrame(rows, schema).withColumn("__streaming_failed", F.lit(None).cast("int"))


def test_a_null_by_right_is_no_failure(spark: SparkSession) -> None:
    guard = Guard(spark, "m")
    rows = start(spark, [(1, "2"), (None, "2"), (1, "two")], "x INT, s STRING")
    got = guard.apply(STAGE, rows, lambda frame: frame.withColumn("y", F.col("x") + F.col("s").cast("int")))
    assert [(row["y"], row["e"]) for row in got.select("y", guard.failures.words().alias("e")).collect()] == [
        (3, None),
        (None, None),
        (None, "stage 0 Custom (x -> y): refuses the values of s, x"),
    ]


def test_only_the_first_failure_is_told(spark: SparkSession) -> None:
    guard = Guard(spark, "m")
    rows = start(spark, [("a",)], "x STRING")
    rows = guard.apply(STAGE, rows, lambda frame: frame.withColumn("y", F.col("x").cast("int")))
    rows = guard.apply(STAGE, rows, lambda frame: frame.withColumn("z", F.when(F.col("y").isNull(), F.raise_error(F.lit("secret")))))
    assert rows.select(guard.failures.words()).collect()[0][0] == "stage 0 Custom (x -> y): refuses the value of x"


def test_metadata_and_names_survive(spark: SparkSession) -> None:
    guard = Guard(spark, "m")
    rows = start(spark, [(1,)], "x INT")
    got = guard.apply(STAGE, rows, lambda frame: frame.withColumn("y", (F.col("x") + 1).alias("y", metadata={"ml_attr": {"k": 1}})))
    assert got.schema["y"].metadata == {"ml_attr": {"k": 1}}
    assert [name for name in got.columns if not name.startswith("__streaming_")] == ["x", "y"]


def test_columns_that_a_stage_leaves_out_are_gone_but_the_events_own_stay(spark: SparkSession) -> None:
    guard = Guard(spark, "m")
    rows = start(spark, [(1, 2)], "x INT, __streaming_event0 INT")
    got = guard.apply(STAGE, rows, lambda frame: frame.select((F.col("x") + 1).alias("y")).select((F.col("y") * 2).alias("z")))
    assert got.drop("__streaming_failed").collect()[0].asDict() == {"z": 4, "__streaming_event0": 2}


@pytest.mark.parametrize(
    ("operator", "transform"),
    [
        ("Filter drops rows", lambda frame: frame.filter("x > 1")),
        ("GlobalLimit silently ends", lambda frame: frame.limit(1)),
        ("Sort needs all rows", lambda frame: frame.orderBy("x")),
        ("Aggregate needs all rows", lambda frame: frame.groupBy("x").count()),
        ("Generate changes the number", lambda frame: frame.select("x", F.explode(F.array("x", "x")).alias("y"))),
        ("Join joins a table", lambda frame: frame.join(frame.sparkSession.range(3), F.col("x") == F.col("id"))),
        ("Deduplicate drops rows", lambda frame: frame.dropDuplicates(["x"])),
        ("Union is more than a projection", lambda frame: frame.union(frame)),
    ],
)
def test_a_stage_may_only_project(operator: str, transform: Callable[[DataFrame], DataFrame], spark: SparkSession) -> None:
    with pytest.raises(ModelError, match=f"m: stage 0 Custom .custom. cannot run on a stream: its {operator}"):
        Guard(spark, "m").apply(STAGE, start(spark, [(1,)], "x INT"), transform)


def test_python_is_found_and_left_alone(spark: SparkSession) -> None:
    guard = Guard(spark, "m")
    double = F.udf(lambda value: None if value is None else 2 * value, "int")
    got = guard.apply(STAGE, start(spark, [(1,), (None,)], "x INT"), lambda frame: frame.withColumn("y", double("x")))
    assert guard.python == ["stage 0 Custom (custom)"]
    assert [row["y"] for row in got.collect()] == [2, None]


def test_stages_of_many_kinds_give_what_spark_ml_gives(spark: SparkSession, tmp_path: Path) -> None:
    data = [(f"w{i % 3} and w{i % 5}", float(i), None if i % 7 == 0 else float(i % 4), "ab"[i % 2], float(i % 9)) for i in range(60)]
    rows = spark.createDataFrame(data, "t STRING, x DOUBLE, gap DOUBLE, c STRING, label DOUBLE").coalesce(1).cache()
    stages = [
        ft.RegexTokenizer(inputCol="t", outputCol="words"),
        ft.StopWordsRemover(inputCol="words", outputCol="kept"),
        ft.NGram(inputCol="kept", outputCol="pairs"),
        ft.HashingTF(inputCol="pairs", outputCol="tf", numFeatures=8),
        ft.IDF(inputCol="tf", outputCol="idf"),
        ft.CountVectorizer(inputCol="kept", outputCol="counts"),
        ft.Word2Vec(inputCol="kept", outputCol="w2v", vectorSize=2, minCount=1, maxIter=1, seed=1),
        ft.Imputer(inputCols=["gap"], outputCols=["filled"]),
        ft.Bucketizer(inputCol="x", outputCol="bucket", splits=[0.0, 10.0, 30.0, 100.0]),
        ft.QuantileDiscretizer(inputCol="x", outputCol="quantile", numBuckets=3),
        ft.Binarizer(inputCol="x", outputCol="high", threshold=20.0),
        ft.SQLTransformer(statement="SELECT *, x * x AS squared, length(c) AS size FROM __THIS__"),
        ft.FeatureHasher(inputCols=["c", "x"], outputCol="hashed", numFeatures=4),
        ft.StringIndexer(inputCol="c", outputCol="ci"),
        ft.OneHotEncoder(inputCols=["ci"], outputCols=["co"], dropLast=False),
        ft.VectorAssembler(inputCols=["filled", "bucket", "quantile", "high", "squared", "size"], outputCol="numbers"),
        ft.Interaction(inputCols=["co", "numbers"], outputCol="crossed"),
        ft.StandardScaler(inputCol="numbers", outputCol="scaled"),
        ft.RobustScaler(inputCol="scaled", outputCol="robust"),
        ft.PCA(inputCol="scaled", outputCol="pca", k=2),
        ft.PolynomialExpansion(inputCol="pca", outputCol="poly"),
        ft.VectorSizeHint(inputCol="poly", size=5, handleInvalid="error"),
        ft.VectorIndexer(inputCol="numbers", outputCol="indexed", maxCategories=4, handleInvalid="keep"),
        ft.VectorSlicer(inputCol="numbers", outputCol="slice", indices=[0, 2]),
        ft.DCT(inputCol="numbers", outputCol="dct"),
        ft.VectorAssembler(
            inputCols=["idf", "counts", "w2v", "hashed", "crossed", "robust", "poly", "indexed", "slice", "dct"], outputCol="features"
        ),
        RandomForestRegressor(numTrees=2, seed=1),
    ]
    fitted = Pipeline(stages=stages).fit(rows)
    model = save_and_load(fitted, tmp_path / "m", spark)
    events = rows.drop("label")
    expected = fitted.transform(events).select(*events.columns, "prediction").collect()
    assert model.transform(events).filter("error IS NULL").select(*events.columns, "prediction").collect() == expected
    assert model.inputs().fieldNames() == ["t", "gap", "x", "c"]
    bad = spark.createDataFrame([(None, 1.0, 1.0, "a"), ("t", -5.0, None, "a"), ("t", 1.0, 1.0, None), ("", None, 1.0, "z")], events.schema)
    errors = [row["error"] for row in model.transform(bad).collect()]
    assert [str(error).split(" (")[0] for error in errors] == [
        "stage 0 RegexTokenizer",
        "stage 8 Bucketizer",
        "stage 13 StringIndexerModel",
        "stage 13 StringIndexerModel",
    ]


def test_a_formula_is_one_stage(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.createDataFrame([("ab"[i % 2], float(i), float(i % 5)) for i in range(40)], "c STRING, x DOUBLE, y DOUBLE").coalesce(1)
    fitted = Pipeline(stages=[ft.RFormula(formula="y ~ c + x + c:x"), LinearRegression(maxIter=1)]).fit(rows)
    model = save_and_load(fitted, tmp_path / "m", spark)
    events = rows.drop("y")
    assert set(model.inputs().fieldNames()) == {"c", "x"}
    expected = [row["prediction"] for row in fitted.transform(events).collect()]
    assert [row["prediction"] for row in model.transform(events).collect()] == expected
    rows = model.transform(spark.createDataFrame([("z", 1.0), ("a", None)], events.schema)).collect()
    assert [str(row["error"]).split(" (")[0] for row in rows] == ["stage 0 RFormulaModel"] * 2


class Twice(Transformer, HasInputCol, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """A stage of the user's own, in Python or in SQL expressions."""

    in_python = Param(Params._dummy(), "in_python", "with a Python function", TypeConverters.toBoolean)

    def __init__(self, *, in_python: bool = False) -> None:
        super().__init__()
        self._setDefault(in_python=False)
        self._set(inputCol="x", outputCol="twice", in_python=in_python)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        x = F.col(self.getInputCol()).cast("double")
        double = F.udf(lambda value: None if value is None else 2.0 * value, "double")
        return dataset.withColumn(self.getOutputCol(), double(x) if self.getOrDefault("in_python") else 2 * x)


@pytest.mark.parametrize("in_python", [True, False])
def test_a_stage_of_the_users_own_is_loaded_only_when_allowed(in_python: bool, spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.createDataFrame([("1", 2.0), ("2", 4.0), ("3", 6.5)], "x STRING, label DOUBLE")
    last = [ft.VectorAssembler(inputCols=["twice"], outputCol="features"), LinearRegression(maxIter=1)]
    fitted = Pipeline(stages=[Twice(in_python=in_python), *last]).fit(rows)
    fitted.write().save(str(tmp_path / "m"))
    with pytest.raises(ModelError, match=r"Twice .* is not allowed: .*model\.allow_classes"):
        pipeline.load(SavedModel(name="m", version="1", uri=str(tmp_path / "m")), spark)
    allowed = (f"{Twice.__module__}.Twice",)
    model = pipeline.load(SavedModel(name="m", version="1", uri=str(tmp_path / "m"), allow_classes=allowed), spark)
    assert model.runs_in_jvm is not in_python
    assert [why.split(" (")[0] for why in model.why_not_jvm] == (["stage 0 Twice"] if in_python else [])
    got = [row["prediction"] for row in model.transform(rows.drop("label")).collect()]
    assert got == [row["prediction"] for row in fitted.transform(rows).collect()]
    if not in_python:
        (bad,) = model.transform(spark.createDataFrame([("one",)], "x STRING")).collect()
        assert bad["error"] == "stage 0 Twice (x -> twice): refuses the value of x"


@dataclass(frozen=True)
class Broken:
    """A model of one rule, x ↦ 2x, with one thing broken."""

    way: str
    runs_in_jvm: bool = True
    why_not_jvm: Sequence[str] = ()

    def inputs(self) -> StructType:
        return StructType([StructField("x", DoubleType())])

    def transform(self, events: DataFrame) -> DataFrame:
        x = F.col("x")
        good = x.isNotNull() & ~F.isnan(x) & (F.abs(x) < 1e300)
        scored = events.withColumns(
            {
                "prediction": F.when(good, 2 * x),
                "probability": F.lit(None).cast("array<double>"),
                "features": F.when(good, F.array(x)),
                "error": F.when(~F.coalesce(good, F.lit(False)), F.lit("x is no number")),
            }
        )
        match self.way:
            case "drops rows":
                return scored.filter("error IS NULL")
            case "raises on null":
                return scored.withColumn("error", F.when(x.isNull(), F.raise_error(F.lit("null"))).otherwise(F.col("error")))
            case "collects":
                events.collect()
                return scored
            case "silent":
                return scored.withColumn("error", F.lit(None).cast("string"))
            case "random":
                return scored.withColumn("prediction", F.when(good, F.rand()))
            case "looks around":
                return scored.withColumn("prediction", F.when(good, 2 * x + events.count()))
            case "reads more":
                return scored.withColumn("prediction", F.when(good, 3 * x)) if "id" in events.columns else scored
            case "drops a column":
                return scored.drop("id")
            case "float":
                return scored.withColumn("prediction", F.col("prediction").cast("float"))
        return scored


FAILS = {
    "": set(),
    "drops rows": {"check_null_never_raises", "check_odd_values_never_raise"},
    "raises on null": {"check_null_never_raises"},
    "collects": {"check_is_lazy"},
    "silent": {"check_null_never_raises", "check_odd_values_never_raise"},
    "random": {"check_deterministic", "check_one_row_is_scored_as_in_a_batch", "check_says_what_it_reads"},
    "looks around": {"check_is_lazy", "check_one_row_is_scored_as_in_a_batch"},
    "reads more": {"check_says_what_it_reads"},
    "drops a column": {"check_keeps_every_row_and_column"},
    "float": {"check_outputs_have_their_types"},
}  # fmt: skip


@pytest.mark.parametrize("way", usual(FAILS, {"", "drops rows", "silent"}))
def test_the_contract_finds_what_is_broken(way: str, spark: SparkSession) -> None:
    events = spark.createDataFrame([(i, float(i)) for i in range(5)], "id INT, x DOUBLE").coalesce(1)
    broken, failed = Broken(way), set()
    for check in contract.MODEL_CHECKS:
        try:
            check(broken, events)
        except AssertionError:
            failed.add(check.__name__)
    # A random prediction may also differ between any two runs of one check, which is what it must not do.
    assert failed == FAILS[way]


def test_pipeline_model_has_the_shape_of_the_protocol(spark: SparkSession, tmp_path: Path) -> None:
    from streaming.models.base import Model

    rows = spark.createDataFrame([(1.0, 2.0), (2.0, 3.0)], "x DOUBLE, label DOUBLE")
    fitted = Pipeline(stages=[ft.VectorAssembler(inputCols=["x"], outputCol="features"), LinearRegression(maxIter=1)]).fit(rows)
    assert isinstance(fitted, PipelineModel)
    assert isinstance(save_and_load(fitted, tmp_path / "m", spark), Model)
