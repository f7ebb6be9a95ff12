"""Saved MLflow models: Spark ML pipelines inside the JVM, all other flavours in Python workers."""

from __future__ import annotations

from typing import cast

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import python
from streaming.models.base import Model
from streaming.models.copied import checked, take
from streaming.models.spark import pipeline
from streaming.scorers import signatures
from streaming.scorers.mlflow import DESCRIPTION, flavour


def load(section: SavedModel, spark: SparkSession) -> Model:
    """The model in the MLflow folder `section.uri`. ModelError when it is missing, tampered with, refused or broken."""
    copy = take(spark, section.uri)
    if DESCRIPTION not in copy.digests:
        raise ModelError(f"{section.uri}: no MLflow model; expected the folder that holds {DESCRIPTION}; check model.uri")
    chosen, settings, _, _ = flavour(section.uri, copy.read(DESCRIPTION))
    if chosen != "spark":
        return cast("Model", python.load(section, spark))
    # model.sha256 is that of the whole folder; what lies inside has a manifest of its own, or none.
    signatures.check(section, copy.folder)
    inside = checked(section, copy).below(str(settings.get("model_data", "sparkml")))
    part = section.model_copy(update={"uri": inside.uri, "sha256": None, "signature": None, "require_signature": False})
    return cast("Model", pipeline.open_copy(part, checked(part, inside), spark))
