"""Small saved models of every format that is not plain Spark, as their own tools write them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import pandas as pd
import skops.io
from pyspark.ml import Pipeline as SparkPipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.regression import LinearRegression as SparkRegression
from pyspark.sql import SparkSession
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from streaming.config.sections import SavedModel
from streaming.scorers import files

#: Rows of the table that the models were fitted on.
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
    return section(path / "m.skops", format="sklearn")


def sklearn_strict(path: Path) -> SavedModel:
    skops.io.dump(pipeline(LogisticRegression(), invalid="error"), path / "m.skops")
    return section(path / "m.skops", format="sklearn")


def sklearn_matrix(path: Path) -> SavedModel:
    matrix = np.array([row[4] for row in rows()])
    skops.io.dump(LinearRegression().fit(matrix, matrix[:, 0] * 2), path / "m.skops")
    return section(path / "m.skops", format="sklearn")


def sklearn_pickle(path: Path) -> SavedModel:
    joblib.dump(pipeline(RandomForestClassifier(n_estimators=5, random_state=1, n_jobs=2)), path / "m.joblib")
    return section(path / "m.joblib", trust=True, sha256=files.read(str(path / "m.joblib")).sha256, format="sklearn")


def onnx_classifier(path: Path) -> SavedModel:
    types = [("contract", StringTensorType([None, 1])), ("tenure", FloatTensorType([None, 1])), ("charges", FloatTensorType([None, 1]))]
    made = convert_sklearn(pipeline(LogisticRegression()), initial_types=types, target_opset=15)
    (path / "m.onnx").write_bytes(made.SerializeToString())
    return section(path / "m.onnx", format="onnx")


def onnx_matrix(path: Path) -> SavedModel:
    matrix = np.array([row[4] for row in rows()])
    made = convert_sklearn(
        LinearRegression().fit(matrix, matrix[:, 0] * 2), initial_types=[("features", FloatTensorType([None, 3]))], target_opset=15
    )
    (path / "m.onnx").write_bytes(made.SerializeToString())
    return section(path, format="onnx")


def mlflow_onnx(path: Path) -> SavedModel:
    onnx_classifier(path)
    (path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.onnx}, onnx: {data: m.onnx}}")
    return section(path, format="mlflow")


def pmml_tree(path: Path) -> SavedModel:
    (path / "m.pmml").write_text(TREE)
    return section(path / "m.pmml", format="pmml")


def pmml_regression(path: Path) -> SavedModel:
    (path / "m.pmml").write_text(REGRESSION)
    return section(path / "m.pmml", format="pmml")


def mlflow_sklearn(path: Path) -> SavedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own functions as it is imported
        import mlflow.sklearn

        mlflow.sklearn.save_model(pipeline(LogisticRegression()), str(path / "m"), serialization_format="skops", pip_requirements=[])
    return section(path / "m", format="mlflow")


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
    return section(path, format="mlflow")


def mlflow_pyfunc(path: Path) -> SavedModel:
    (path / "code.py").write_text(CODE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(Schema([ColSpec("long", "tenure"), ColSpec("double", "charges")]), Schema([ColSpec("double")]))
        mlflow.pyfunc.save_model(str(path / "m"), python_model=str(path / "code.py"), signature=signature, pip_requirements=[])
    return section(path / "m", trust=True, sha256=files.read(str(path / "m")).sha256, format="mlflow")


#: One of each kind: name -> what saves it into a folder and names it.
SAVED: Final[dict[str, Callable[[Path], SavedModel]]] = {
    "sklearn classifier": sklearn_classifier,
    "sklearn strict": sklearn_strict,
    "sklearn matrix": sklearn_matrix,
    "sklearn pickle": sklearn_pickle,
    "onnx classifier": onnx_classifier,
    "onnx matrix": onnx_matrix,
    "pmml tree": pmml_tree,
    "pmml regression": pmml_regression,
    "mlflow onnx": mlflow_onnx,
    "mlflow spark": mlflow_spark,
    "mlflow sklearn": mlflow_sklearn,
    "mlflow pyfunc": mlflow_pyfunc,
}
