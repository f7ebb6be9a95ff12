"""Saved pipelines on eight small rows, loaded as the service loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
