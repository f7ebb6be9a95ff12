"""Saved MLflow models: Spark ML pipelines inside the JVM, all other flavours in Python workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.scorers import files
from streaming.scorers.base import Scorer
from streaming.scorers.mlflow import DESCRIPTION, flavour, open_mlflow

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.models.base import Model


def load(section: SavedModel, spark: SparkSession) -> Model:
    """The model in the MLflow folder `section.uri`. ModelError when it is missing, tampered with, refused or broken."""
    from streaming.models import manifest, python
    from streaming.models.spark import pipeline

    uri = section.uri.rstrip("/")
    fs, path = manifest.at(spark, f"{uri}/{DESCRIPTION}")
    if not fs.exists(path):
        raise ModelError(f"{uri}: no MLflow model; expected the folder that holds {DESCRIPTION}; check model.uri")
    chosen, settings, _, _ = flavour(uri, manifest.content(spark, f"{uri}/{DESCRIPTION}"))
    if chosen == "spark":
        _check_fingerprint(section, manifest.fingerprint(spark, uri))
        inside = f"{uri}/{settings.get('model_data', 'sparkml')}"
        return cast("Model", pipeline.load(section.model_copy(update={"uri": inside, "sha256": None}), spark))
    opener = partial(open_mlflow, trust=section.trust, allow=section.allow_classes)
    found = python.fetch(spark, section.uri, section.sha256)
    why = f"the MLflow flavour {chosen} computes in Python"
    return cast("Model", python.model(spark, found, opener, key=f"mlflow:{section.allow_classes}", why=why))


def _check_fingerprint(section: SavedModel, got: str) -> None:
    if section.sha256 not in {None, got}:
        raise ModelError(f"{section.uri}: the files were changed or tampered with: model.sha256 in the config expects {section.sha256}, got {got}; "
                         "restore the model, or, if the change is yours, update model.sha256")  # fmt: skip


def open_scorer(section: SavedModel) -> Scorer:
    """The same model in this process, without Spark; `section.uri` is local. Not for the flavour `spark`."""
    return open_mlflow(files.read(section.uri).verified(section.sha256), trust=section.trust, allow=section.allow_classes)
