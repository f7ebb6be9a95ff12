"""Learned weights as Spark ML models and back: what `warm_start` reads and `streaming export` writes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from pyspark.ml.classification import LogisticRegressionModel
from pyspark.ml.clustering import KMeansModel
from pyspark.ml.linalg import Matrices, Vectors
from pyspark.ml.regression import GeneralizedLinearRegressionModel, LinearRegressionModel
from pyspark.sql import SparkSession

from streaming.errors import ModelError
from streaming.online.weights import Weights

#: What a model can be made of, for error messages.
READABLE: Final = (
    "LogisticRegressionModel, LinearRegressionModel, KMeansModel or a GeneralizedLinearRegressionModel with family poisson and link log"
)


def of_stage(stage: Any) -> Weights:
    """The weights of a fitted Spark ML stage. ModelError when the stage has no such form."""
    if isinstance(stage, LogisticRegressionModel):
        if stage.numClasses == 2 and stage.coefficientMatrix.numRows == 1:
            if stage.getThreshold() != 0.5:
                raise ModelError(f"{stage.uid}: threshold {stage.getThreshold()}; a learner decides at 0.5, so its answers would differ")
            return Weights("logistic", stage.coefficients.toArray(), np.asarray(stage.intercept))
        return Weights("softmax", stage.coefficientMatrix.toArray(), stage.interceptVector.toArray())
    if isinstance(stage, LinearRegressionModel):
        return Weights("linear", stage.coefficients.toArray(), np.asarray(stage.intercept))
    if isinstance(stage, KMeansModel):
        return Weights("nearest", np.asarray(stage.clusterCenters()), None)
    if isinstance(stage, GeneralizedLinearRegressionModel) and stage.getFamily().lower() == "poisson":
        return Weights("poisson", stage.coefficients.toArray(), np.asarray(stage.intercept))
    raise ModelError(f"a {type(stage).__name__} has no weights to start from; expected {READABLE}")


def to_stage(spark: SparkSession, weights: Weights, *, uid: str) -> Any:
    """A fitted Spark ML model with these weights: reads the column `features`, as the saved pipeline made it.

    ModelError for poisson, whose Spark class cannot be made from coefficients alone.
    """
    jvm: Any = spark._jvm
    ml = jvm.org.apache.spark.ml
    rows = weights.coefficients
    if weights.kind == "logistic":
        return LogisticRegressionModel(ml.classification.LogisticRegressionModel(uid, _vector(spark, rows), float(weights.intercept)))  # type: ignore[arg-type]
    if weights.kind == "linear":
        return LinearRegressionModel(ml.regression.LinearRegressionModel(uid, _vector(spark, rows), float(weights.intercept)))  # type: ignore[arg-type]
    if weights.kind == "softmax":
        matrix = _java(spark, Matrices.dense(rows.shape[0], rows.shape[1], rows.ravel(order="F").tolist()))
        intercepts = _java(spark, Vectors.dense(np.asarray(weights.intercept).tolist()))
        return LogisticRegressionModel(ml.classification.LogisticRegressionModel(uid, matrix, intercepts, rows.shape[0], True))
    if weights.kind == "nearest":
        centres = spark.sparkContext._gateway.new_array(jvm.org.apache.spark.mllib.linalg.Vector, len(rows))  # type: ignore[union-attr]
        for i, row in enumerate(rows):
            centres[i] = jvm.org.apache.spark.mllib.linalg.Vectors.fromML(_vector(spark, row))
        return KMeansModel(ml.clustering.KMeansModel(uid, jvm.org.apache.spark.mllib.clustering.KMeansModel(centres)))
    raise ModelError(
        f"weights of kind {weights.kind} have no Spark ML model that can be made from coefficients; kinds that do: linear, logistic, softmax, nearest"
    )


def _vector(spark: SparkSession, values: Any) -> Any:
    return _java(spark, Vectors.dense(values.tolist()))


def _java(spark: SparkSession, value: Any) -> Any:
    from pyspark.ml.common import _py2java

    return _py2java(spark.sparkContext, value)
