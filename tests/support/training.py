"""Trainings of the churn table, as the tests of `streaming train` run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel, Train
from streaming.demo import churn
from streaming.training.run import TrainingReport, train

ROWS = 800
CATEGORICAL = ("contract", "internet_service", "payment_method", "paperless_billing")


def section(data: Path, **changes: Any) -> Train:
    plain = {"data": str(data), "label": "churn", "positive_label": "Yes", "categorical": CATEGORICAL, "numeric": churn.NUMERIC}
    quick = {"params": {"maxIter": 10}} if "algorithm" not in changes else {}
    return Train.model_validate(plain | quick | {"format": "csv" if data.suffix == ".csv" else "parquet"} | changes)


def saved(path: Path) -> SavedModel:
    return SavedModel(name="churn", version="v1", uri=str(path))


def run(spark: SparkSession, data: Path, out: Path, **changes: Any) -> tuple[TrainingReport, PipelineModel]:
    report = train(section(data, **changes), saved(out), spark, source="conf/test.yaml")
    return report, PipelineModel.load(str(out))
