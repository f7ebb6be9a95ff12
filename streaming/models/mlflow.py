"""Saved MLflow models: Spark ML pipelines inside the JVM, all other flavours in Python workers."""

from __future__ import annotations

from typing import cast

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest, python
from streaming.models.base import Model
from streaming.models.spark import pipeline
from streaming.scorers.files import tampered
from streaming.scorers.mlflow import DESCRIPTION, flavour


def load(section: SavedModel, spark: SparkSession) -> Model:
    """The model in the MLflow folder `section.uri`. ModelError when it is missing, tampered with, refused or broken."""
    uri = section.uri.rstrip("/")
    fs, path = manifest.at(spark, f"{uri}/{DESCRIPTION}")
    if not fs.exists(path):
        raise ModelError(f"{uri}: no MLflow model; expected the folder that holds {DESCRIPTION}; check model.uri")
    chosen, settings, _, _ = flavour(uri, manifest.content(spark, f"{uri}/{DESCRIPTION}"))
    if chosen != "spark":
        return cast("Model", python.load(section, spark))
    got = manifest.fingerprint(spark, uri)
    if section.sha256 not in {None, got}:
        raise tampered(uri, expected=section.sha256, got=got)
    inside = f"{uri}/{settings.get('model_data', 'sparkml')}"
    return cast("Model", pipeline.load(section.model_copy(update={"uri": inside, "sha256": None}), spark))
