"""Saved pipelines on eight small rows, loaded as the service loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.sql import DataFrame, SparkSession

from streaming.config.sections import SavedModel
from streaming.models.spark import pipeline


def load(spark: SparkSession, uri: Path | str, **other: Any) -> pipeline.SparkModel:
    """The pipeline at `uri`, vetted; `other`: more of the section `model`."""
    return pipeline.load(SavedModel(name="m", version="1", uri=str(uri), **other), spark)


def labelled_rows(spark: SparkSession) -> DataFrame:
    """Eight rows of a category, a number and a label, in one partition."""
    return spark.createDataFrame(
        [(c, float(i), float(i % 2)) for i, c in enumerate("abcabcab")], "c STRING, x DOUBLE, label DOUBLE"
    ).coalesce(1)


def save_plan_model(spark: SparkSession, path: Path) -> Path:
    """Fit and save at `path`: plan ("basic", "plus"; others are refused), minutes and calls -> logistic regression."""
    rows = [(("basic", "plus")[i % 2], float(i % 17), i % 5, float((i * 7) % 11 < 4)) for i in range(110)]
    stages = [
        StringIndexer(inputCol="plan", outputCol="p", handleInvalid="error"),
        VectorAssembler(inputCols=["p", "minutes", "calls"], outputCol="features"),
        LogisticRegression(maxIter=3),
    ]
    Pipeline(stages=stages).fit(spark.createDataFrame(rows, "plan STRING, minutes DOUBLE, calls INT, label DOUBLE")).save(str(path))
    return path
