"""Every format of a saved model keeps the contract of a model; files that are missing, broken or tampered with say so."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from pyspark.ml import Pipeline as SparkPipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression as SparkRegression
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from streaming.checks.model import MODEL_CHECKS, check_null_never_raises, check_scores_good_rows
from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import mlflow as mlflow_format
from streaming.models import onnx as onnx_format
from streaming.models import pmml as pmml_format
from streaming.models import sklearn as sklearn_format
from streaming.models.base import OUTPUTS, Model
from tests.support.usual import usual

SCHEMA = "id INT, contract STRING, tenure INT, charges DOUBLE, input_features ARRAY<DOUBLE>, extra STRUCT<a: INT, b: ARRAY<STRING>>"
N = 60

TREE = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/>
<DataDictionary>
  <DataField name="contract" optype="categorical" dataType="string"/>
  <DataField name="tenure" optype="continuous" dataType="integer"/>
  <DataField name="churn" optype="categorical" dataType="string"><Value value="no"/><Value value="yes"/></DataField>
</DataDictionary>
<TreeModel functionName="classification" missingValueStrategy="nullPrediction">
  <MiningSchema><MiningField name="churn" usageType="target"/><MiningField name="contract"/><MiningField name="tenure"/></MiningSchema>
  <Node><True/>
    <Node score="yes"><SimplePredicate field="contract" operator="equal" value="month"/>
      <Node score="yes"><SimplePredicate field="tenure" operator="lessThan" value="24"/>
        <ScoreDistribution value="no" recordCount="2"/><ScoreDistribution value="yes" recordCount="18"/></Node>
      <Node score="no"><SimplePredicate field="tenure" operator="greaterOrEqual" value="24"/>
        <ScoreDistribution value="no" recordCount="15"/><ScoreDistribution value="yes" recordCount="5"/></Node>
    </Node>
    <Node score="no"><SimplePredicate field="contract" operator="notEqual" value="month"/>
      <ScoreDistribution value="no" recordCount="48"/><ScoreDistribution value="yes" recordCount="12"/></Node>
  </Node>
</TreeModel></PMML>"""

REGRESSION = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/>
<DataDictionary>
  <DataField name="tenure" optype="continuous" dataType="double"/>
  <DataField name="charges" optype="continuous" dataType="double"/>
  <DataField name="value" optype="continuous" dataType="double"/>
</DataDictionary>
<TransformationDictionary><DerivedField name="years" optype="continuous" dataType="double">
  <Apply function="/"><FieldRef field="tenure"/><Constant>12</Constant></Apply></DerivedField></TransformationDictionary>
<RegressionModel functionName="regression">
  <MiningSchema><MiningField name="value" usageType="target"/><MiningField name="tenure"/><MiningField name="charges"/></MiningSchema>
  <RegressionTable intercept="1.5"><NumericPredictor name="years" coefficient="2"/><NumericPredictor name="charges" coefficient="-0.25"/></RegressionTable>
</RegressionModel></PMML>"""


def section(uri: Path | str, **other: Any) -> SavedModel:
    return SavedModel(name="m", version="1", uri=str(uri), **other)


def rows() -> list[tuple[Any, ...]]:
    kinds = ("month", "year", "two")
    return [(i, kinds[i % 3], (i * 37) % 72, ((i * 7919) % 1000) / 10, [float(i % 7), i / 10, 1.0], (i, ["x", None])) for i in range(N)]


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(rows(), SCHEMA).coalesce(1).cache()


def training() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    table = pd.DataFrame([row[1:4] for row in rows()], columns=["contract", "tenure", "charges"])
    return table, ((table.tenure < 24) ^ (table.contract == "month")).astype(int).to_numpy()


def pipeline(last: Any, invalid: str = "ignore") -> Pipeline:
    prepare = ColumnTransformer(
        [("text", OneHotEncoder(handle_unknown=invalid), ["contract"]), ("numbers", StandardScaler(), ["tenure", "charges"])]
    )
    return Pipeline([("prepare", prepare), ("last", last)]).fit(*training())


def sklearn_classifier(path: Path) -> SavedModel:
    skops.io.dump(pipeline(LogisticRegression()), path / "m.skops")
    return section(path / "m.skops")


def sklearn_strict(path: Path) -> SavedModel:
    skops.io.dump(pipeline(LogisticRegression(), invalid="error"), path / "m.skops")
    return section(path / "m.skops")


def sklearn_matrix(path: Path) -> SavedModel:
    matrix = np.array([row[4] for row in rows()])
    skops.io.dump(LinearRegression().fit(matrix, matrix[:, 0] * 2), path / "m.skops")
    return section(path / "m.skops")


def sklearn_pickle(path: Path) -> SavedModel:
    joblib.dump(pipeline(RandomForestClassifier(n_estimators=5, random_state=1, n_jobs=2)), path / "m.joblib")
    return section(path / "m.joblib", trust=True)


def onnx_classifier(path: Path) -> SavedModel:
    types = [("contract", StringTensorType([None, 1])), ("tenure", FloatTensorType([None, 1])), ("charges", FloatTensorType([None, 1]))]
    made = convert_sklearn(pipeline(LogisticRegression()), initial_types=types, target_opset=15)
    (path / "m.onnx").write_bytes(made.SerializeToString())
    return section(path / "m.onnx")


def onnx_matrix(path: Path) -> SavedModel:
    matrix = np.array([row[4] for row in rows()])
    made = convert_sklearn(
        LinearRegression().fit(matrix, matrix[:, 0] * 2), initial_types=[("features", FloatTensorType([None, 3]))], target_opset=15
    )
    (path / "m.onnx").write_bytes(made.SerializeToString())
    return section(path)


def mlflow_onnx(path: Path) -> SavedModel:
    onnx_classifier(path)
    (path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.onnx}, onnx: {data: m.onnx}}")
    return section(path)


def pmml_tree(path: Path) -> SavedModel:
    (path / "m.pmml").write_text(TREE)
    return section(path / "m.pmml")


def pmml_regression(path: Path) -> SavedModel:
    (path / "m.pmml").write_text(REGRESSION)
    return section(path / "m.pmml")


def mlflow_sklearn(path: Path) -> SavedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own functions as it is imported
        import mlflow.sklearn

        mlflow.sklearn.save_model(pipeline(LogisticRegression()), str(path / "m"), serialization_format="skops", pip_requirements=[])
    return section(path / "m")


#: What MLflow calls a model from code: a file that says how to predict.
CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Doubled(PythonModel):
    def predict(self, context, model_input):
        assert model_input.tenure.dtype == "int64"
        return model_input.tenure * 2.0 + model_input.charges

set_model(Doubled())
"""


def mlflow_spark(path: Path) -> SavedModel:
    """A Spark ML pipeline, in the layout in which MLflow saves it."""
    spark = SparkSession.getActiveSession()
    assert spark is not None
    assembler = VectorAssembler(inputCols=["tenure", "charges"], outputCol="vector", handleInvalid="error")
    made = spark.createDataFrame([(1, 2.0, 1.0), (2, 3.0, 3.0)], "tenure INT, charges DOUBLE, label DOUBLE")
    SparkPipeline(stages=[assembler, SparkRegression(featuresCol="vector", maxIter=1)]).fit(made).save(str(path / "sparkml"))
    (path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.spark}, spark: {model_data: sparkml}}")
    return section(path)


def mlflow_pyfunc(path: Path) -> SavedModel:
    (path / "code.py").write_text(CODE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(Schema([ColSpec("long", "tenure"), ColSpec("double", "charges")]), Schema([ColSpec("double")]))
        mlflow.pyfunc.save_model(str(path / "m"), python_model=str(path / "code.py"), signature=signature, pip_requirements=[])
    return section(path / "m", trust=True)


FORMATS: dict[str, tuple[Callable[[SavedModel, SparkSession], Model], Callable[[Path], SavedModel]]] = {
    "sklearn classifier": (sklearn_format.load, sklearn_classifier),
    "sklearn strict": (sklearn_format.load, sklearn_strict),
    "sklearn matrix": (sklearn_format.load, sklearn_matrix),
    "sklearn pickle": (sklearn_format.load, sklearn_pickle),
    "onnx classifier": (onnx_format.load, onnx_classifier),
    "onnx matrix": (onnx_format.load, onnx_matrix),
    "pmml tree": (pmml_format.load, pmml_tree),
    "pmml regression": (pmml_format.load, pmml_regression),
    "mlflow onnx": (mlflow_format.load, mlflow_onnx),
    "mlflow spark": (mlflow_format.load, mlflow_spark),
    "mlflow sklearn": (mlflow_format.load, mlflow_sklearn),
    "mlflow pyfunc": (mlflow_format.load, mlflow_pyfunc),
}


@pytest.fixture(scope="module")
def opened(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            load, save = FORMATS[name]
            made[name] = load(save(tmp_path_factory.mktemp("model")), spark)
        return made[name]

    return get


@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", usual(FORMATS, {"sklearn classifier", "pmml tree"}))
def test_contract(name: str, check: Callable[[Model, DataFrame], None], opened: Callable[[str], Model], events: DataFrame) -> None:
    check(opened(name), events)


@dataclass(frozen=True)
class Careless:
    """A format that leaves out what it does not like: an event without an answer."""

    inner: Any
    runs_in_jvm: bool = False
    why_not_jvm: Sequence[str] = ("computed in Python",)

    def inputs(self) -> StructType:
        return self.inner.inputs()

    def transform(self, events: DataFrame) -> DataFrame:
        return self.inner.transform(events.na.drop(subset=["contract"]))


def test_a_format_that_drops_rows_fails_the_contract(opened: Callable[[str], Model], events: DataFrame) -> None:
    careless = Careless(opened("pmml tree"))
    check_scores_good_rows(careless, events)
    with pytest.raises(AssertionError, match="rows for"):
        check_null_never_raises(careless, events)


@pytest.mark.parametrize("name", ["sklearn strict", "pmml tree"])
def test_a_format_on_a_stream_keeps_what_cannot_be_decoded(
    name: str, opened: Callable[[str], Model], spark: SparkSession, tmp_path: Path
) -> None:
    """Decoded events have two structs of their own; of an event that could not be decoded everything else is null."""
    schema = "`a.b` INT, Contract STRING, tenure INT, charges DOUBLE, _event STRUCT<topic: STRING, raw_value: BINARY>, _problem STRUCT<reason: STRING>"
    good, undecoded = (1, "month", 3, 20.0, ("t", b"{}"), None), (None, None, None, None, ("t", b"\xff"), ("invalid_utf8",))
    source = spark.createDataFrame([good, undecoded] * 20, schema).coalesce(1)
    source.write.parquet(str(tmp_path / "in"))
    model = opened(name)
    stream = spark.readStream.schema(source.schema).parquet(str(tmp_path / "in"))
    query = model.transform(stream).writeStream.format("memory").queryName("kept").trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination()
    kept = spark.table("kept")
    assert kept.columns == [*source.columns, *OUTPUTS]
    found = kept.collect()
    assert [row[: len(source.columns)] for row in found] == [tuple(row) for row in source.collect()]
    for row in found:
        assert (row["prediction"] is not None) == (row["_problem"] is None)
        assert (row["error"] is None) == (row["_problem"] is None)


@pytest.mark.parametrize("name", usual(FORMATS, {"onnx classifier", "pmml regression", "mlflow spark", "mlflow pyfunc"}))
def test_only_spark_and_pmml_stay_in_the_jvm(name: str, opened: Callable[[str], Model]) -> None:
    model = opened(name)
    assert model.runs_in_jvm is (name in {"pmml tree", "pmml regression", "mlflow spark"})
    assert bool(model.why_not_jvm) is not model.runs_in_jvm


def test_errors_name_columns_and_never_values(opened: Callable[[str], Model], spark: SparkSession) -> None:
    odd = spark.createDataFrame(
        [("secret", 1, 1.0), (None, 1, 1.0), ("month", None, math.inf)], "contract STRING, tenure INT, charges DOUBLE"
    )
    assert [row["error"] for row in opened("sklearn strict").transform(odd).collect()] == [
        "Pipeline: contract has a value that the model has never seen",
        "Pipeline: contract is null or NaN",
        "Pipeline: tenure is null or NaN; charges is infinite",
    ]
    assert [row["error"] for row in opened("pmml tree").transform(odd).collect()] == [
        None, "TreeModel: contract is null or NaN", "TreeModel: tenure is null or NaN",
    ]  # fmt: skip


@pytest.mark.parametrize("name", usual(FORMATS, {"sklearn pickle", "onnx classifier", "pmml tree", "mlflow pyfunc"}))
def test_other_bytes_than_the_expected_are_refused(name: str, spark: SparkSession, tmp_path: Path) -> None:
    load, save = FORMATS[name]
    with pytest.raises(ModelError, match="changed or tampered with"):
        load(save(tmp_path).model_copy(update={"sha256": "0" * 64}), spark)


def test_events_must_fit(opened: Callable[[str], Model], spark: SparkSession) -> None:
    strict = opened("sklearn strict")
    with pytest.raises(ModelError, match="reads column 'charges'"):
        strict.transform(spark.createDataFrame([("a", 1)], "contract STRING, tenure INT"))
    with pytest.raises(ModelError, match="reads text; the event has it as array<string>"):
        strict.transform(spark.createDataFrame([(["a"], 1, 1.0)], "contract ARRAY<STRING>, tenure INT, charges DOUBLE"))
    with pytest.raises(ModelError, match="a name under which the model answers"):
        strict.transform(spark.createDataFrame([("a", 1, 1.0, 1.0)], "contract STRING, tenure INT, charges DOUBLE, Prediction DOUBLE"))
