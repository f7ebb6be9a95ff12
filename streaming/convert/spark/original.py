"""A saved Spark pipeline, ready to be converted: `original` for the table of formats."""

from __future__ import annotations

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.convert.original import Original
from streaming.convert.spark import answers
from streaming.convert.spark.pipeline import convert
from streaming.errors import ModelError
from streaming.models.spark import pipeline
from streaming.scorers import compare


def original(section: SavedModel, spark: SparkSession | None) -> Original:
    """The pipeline of `section`. ModelError when it may not be opened, or there is no session."""
    if spark is None:
        raise ModelError(f"{section.uri}: a saved Spark pipeline can be converted only with a Spark session")
    model = pipeline.load(section, spark)
    return Original(
        convert=lambda: convert(model),
        score=lambda columns, converted: answers.scores(model, columns, converted.kinds, converted.types),
        sha256=model.fingerprint,
        tolerance=compare.TOLERANCE,
        manifest=model.manifest,
    )
