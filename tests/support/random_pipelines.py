"""Pipelines with stages and settings drawn at random; every draw is a pipeline that somebody might save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pyspark.ml import Pipeline, classification, clustering, regression
from pyspark.ml import feature as ft
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

SCHEMA = "color STRING, size STRING, n INT, x DOUBLE, y DOUBLE, f FLOAT, label DOUBLE, three DOUBLE"
COLORS = ("red", "${env:HOME}", "o'clock \\", "Ü ✓")
#: How many elements the vector has that a network, or a stage that multiplies, gets to see.
_FEW = 4


def training(spark: SparkSession) -> DataFrame:
    """300 rows to fit a pipeline on."""
    rng = np.random.default_rng(5)
    rows = [
        (COLORS[int(rng.integers(4))], f"s{int(rng.integers(40))}", int(rng.integers(60)), float(rng.normal()), float(rng.normal() * 100),
         float(np.float32(rng.normal())), float(rng.integers(2)), float(rng.integers(3)))
        for _ in range(300)
    ]  # fmt: skip
    return spark.createDataFrame(rows, SCHEMA).coalesce(1).cache()


def chosen(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """One of them."""
    return options[int(rng.integers(len(options)))]


def random_pipeline(rng: np.random.Generator, *, last: str | None = None) -> Pipeline:
    """Columns, vectors, a predictor. `last`: the predictor's name, instead of one drawn at random."""
    name = last or chosen(rng, sorted(PREDICTORS))
    stages = _formula(rng) if rng.random() < 0.1 else _columns(rng)
    middle = _few(rng) if name in _NARROW else "MinMaxScaler" if name in _NOT_NEGATIVE else chosen(rng, sorted(VECTORS))
    return Pipeline(stages=[*stages, *VECTORS[middle](rng), PREDICTORS[name](rng)])


def _few(rng: np.random.Generator) -> str:
    return str(chosen(rng, ["PCA", "VectorSlicer"]))


def _keep(rng: np.random.Generator) -> str:
    return str(chosen(rng, ["keep", "error"]))


def _formula(rng: np.random.Generator) -> list[Any]:
    formula = chosen(
        rng, ["label ~ color + x + size:y + n", "label ~ color:size + y", "label ~ (color + x + y)^2", "three ~ x:y + color:f - 1"]
    )
    return [ft.RFormula(formula=formula, featuresCol="all", labelCol="unused", handleInvalid=_keep(rng))]


def _columns(rng: np.random.Generator) -> list[Any]:
    statement = chosen(rng, [
        "SELECT *, x * 2 + y AS xy, CASE WHEN n > 30 THEN 'high' WHEN n > 10 THEN 'low' END AS level FROM __THIS__",
        "SELECT *, coalesce(x, 0.5D) / (n - 60) AS xy, upper(color) AS level FROM __THIS__",
        "SELECT *, CAST(n AS DOUBLE) AS xy, substring(size, 1, 2) AS level FROM __THIS__",
    ])  # fmt: skip
    return [
        ft.SQLTransformer(statement=statement),
        ft.StringIndexer(inputCols=["color", "size", "n", "level"], outputCols=["color_i", "size_i", "n_i", "level_i"], handleInvalid="keep"),
        ft.OneHotEncoder(inputCols=["color_i", "size_i"], outputCols=["color_o", "size_o"], handleInvalid=_keep(rng),
                         dropLast=bool(rng.integers(2))),
        ft.Imputer(inputCols=["n", "x", "xy"], outputCols=["n_f", "x_f", "xy_f"], strategy=chosen(rng, ["mean", "median"])),
        ft.Bucketizer(inputCol="y", outputCol="y_b", splits=[-np.inf, -50.0, 0.0, 50.0, chosen(rng, [np.inf, 1e6])], handleInvalid=_keep(rng)),
        ft.Binarizer(inputCol="x_f", outputCol="x_t", threshold=0.0),
        ft.Interaction(inputCols=[*chosen(rng, [["color_o", "x_f"], ["level_i", "color_o"], ["x_f", "n_f"]])], outputCol="crossed"),
        ft.VectorAssembler(inputCols=["x_f", "y_b", "n_f", "x_t", "color_o", "size_o", "f", "n_i", "xy_f", "crossed"], outputCol="all",
                           handleInvalid=_keep(rng)),
    ]  # fmt: skip


def _whole(make: Callable[[np.random.Generator], Any]) -> Callable[[np.random.Generator], list[Any]]:
    return lambda rng: [make(rng)]


_IO: dict[str, str] = {"inputCol": "all", "outputCol": "features"}
#: Stages from the vector `all` to the vector `features`.
VECTORS: dict[str, Callable[[np.random.Generator], list[Any]]] = {
    "StandardScaler": _whole(lambda rng: ft.StandardScaler(**_IO, withMean=bool(rng.integers(2)), withStd=bool(rng.integers(2)))),
    "MinMaxScaler": _whole(lambda rng: ft.MinMaxScaler(**_IO, min=0.0, max=2.0)),
    "MaxAbsScaler": _whole(lambda rng: ft.MaxAbsScaler(**_IO)),
    "RobustScaler": _whole(lambda rng: ft.RobustScaler(**_IO, withCentering=bool(rng.integers(2)))),
    "Binarizer": _whole(lambda rng: ft.Binarizer(**_IO, threshold=float(rng.normal()))),
    "Normalizer": _whole(lambda rng: ft.Normalizer(**_IO, p=chosen(rng, [1.0, 2.0, 3.0, float("inf")]))),
    "VectorSlicer": _whole(lambda rng: ft.VectorSlicer(**_IO, indices=sorted(map(int, rng.choice(7, _FEW, replace=False))))),
    "PCA": _whole(lambda rng: ft.PCA(**_IO, k=_FEW)),
    "VarianceThresholdSelector": _whole(
        lambda rng: ft.VarianceThresholdSelector(featuresCol="all", outputCol="features", varianceThreshold=0.1)
    ),
    "PolynomialExpansion": lambda rng: [
        ft.VectorSlicer(inputCol="all", outputCol="sliced", indices=[0, 2, 4]),
        ft.PolynomialExpansion(inputCol="sliced", outputCol="features", degree=int(rng.integers(1, 4))),
    ],
    "ElementwiseProduct": lambda rng: [
        ft.VectorSlicer(inputCol="all", outputCol="sliced", indices=[0, 1, 4]),
        ft.ElementwiseProduct(inputCol="sliced", outputCol="features", scalingVec=Vectors.dense([0.5, -1.0, 0.0])),
    ],
}

_NARROW = frozenset({"MultilayerPerceptronClassifier"})
_NOT_NEGATIVE = frozenset({"NaiveBayes"})
PREDICTORS: dict[str, Callable[[np.random.Generator], Any]] = {
    "LogisticRegression": lambda rng: classification.LogisticRegression(maxIter=3, threshold=float(rng.random())),
    "LogisticRegression of three": lambda rng: classification.LogisticRegression(maxIter=3, labelCol="three"),
    "LogisticRegression with thresholds": lambda rng: classification.LogisticRegression(
        maxIter=3, labelCol="three", thresholds=[0.0, 0.2, 0.9]
    ),
    "LinearSVC": lambda rng: classification.LinearSVC(maxIter=3, threshold=float(rng.normal())),
    "LinearRegression": lambda rng: regression.LinearRegression(maxIter=3, elasticNetParam=1.0, regParam=0.05),
    "GLM binomial": lambda rng: regression.GeneralizedLinearRegression(
        family="binomial", link=chosen(rng, ["logit", "cloglog"]), maxIter=2, regParam=0.1
    ),
    "GLM gaussian": lambda rng: regression.GeneralizedLinearRegression(family="gaussian", maxIter=2, regParam=0.1),
    "DecisionTreeClassifier": lambda rng: classification.DecisionTreeClassifier(maxBins=64, maxDepth=3, labelCol="three", seed=1),
    "RandomForestClassifier": lambda rng: classification.RandomForestClassifier(
        maxBins=64, numTrees=4, maxDepth=3, labelCol="three", seed=1
    ),
    "GBTClassifier": lambda rng: classification.GBTClassifier(maxBins=64, maxIter=2, maxDepth=2, seed=1),
    "MultilayerPerceptronClassifier": lambda rng: classification.MultilayerPerceptronClassifier(
        layers=[_FEW, 3, 3], maxIter=2, labelCol="three", seed=1
    ),
    "NaiveBayes": lambda rng: classification.NaiveBayes(labelCol="three", modelType=chosen(rng, ["multinomial", "gaussian", "complement"])),
    "FMClassifier": lambda rng: classification.FMClassifier(maxIter=2, factorSize=2, seed=1),
    "DecisionTreeRegressor": lambda rng: regression.DecisionTreeRegressor(maxBins=64, maxDepth=3, seed=1),
    "RandomForestRegressor": lambda rng: regression.RandomForestRegressor(maxBins=64, numTrees=3, maxDepth=3, seed=1),
    "GBTRegressor": lambda rng: regression.GBTRegressor(maxBins=64, maxIter=2, maxDepth=2, seed=1),
    "FMRegressor": lambda rng: regression.FMRegressor(maxIter=2, factorSize=2, seed=1),
    "KMeans": lambda rng: clustering.KMeans(k=3, maxIter=2, seed=1),
    "BisectingKMeans": lambda rng: clustering.BisectingKMeans(k=3, maxIter=2, seed=1),
    "GaussianMixture": lambda rng: clustering.GaussianMixture(k=2, maxIter=1, seed=1),
}
