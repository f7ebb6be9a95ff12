"""Saved scikit-learn models: `.skops` files, and pickles that the config trusts. They are computed in Python workers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streaming.config.sections import SavedModel
from streaming.scorers import files
from streaming.scorers.base import Scorer
from streaming.scorers.sklearn import open_sklearn

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.models.python import PythonModel


def load(section: SavedModel, spark: SparkSession) -> PythonModel:
    """The model file at `section.uri`, checked and opened. ModelError when it is missing, tampered with, refused or broken."""
    from streaming.models import python

    opener = partial(open_sklearn, trust=section.trust, allow=section.allow_classes)
    found = python.fetch(spark, section.uri, section.sha256)
    return python.model(spark, found, opener, key=f"sklearn:{section.allow_classes}", why="scikit-learn computes in Python")


def open_scorer(section: SavedModel) -> Scorer:
    """The same model in this process, without Spark; `section.uri` is local."""
    return open_sklearn(files.read(section.uri).verified(section.sha256), trust=section.trust, allow=section.allow_classes)
