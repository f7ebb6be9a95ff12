"""Saved ONNX models, one .onnx file or a folder with one: computed by onnxruntime in Python workers. ONNX runs no code of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streaming.config.sections import SavedModel
from streaming.scorers import files
from streaming.scorers.base import Scorer
from streaming.scorers.mlflow import open_package

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.models.python import PythonModel


def load(section: SavedModel, spark: SparkSession) -> PythonModel:
    """The model at `section.uri`, checked and opened. ModelError when it is missing, tampered with or broken."""
    from streaming.models import python

    found, opener = python.fetch(spark, section.uri, None), partial(open_package, sha256=section.sha256)
    return python.model(spark, found, opener, key="onnx", why="onnxruntime computes in Python workers")


def open_scorer(section: SavedModel) -> Scorer:
    """The same model in this process, without Spark; `section.uri` is local."""
    return open_package(files.read(section.uri), sha256=section.sha256)
