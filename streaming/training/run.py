"""`streaming train`: a table in, a saved pipeline and its manifest out. The same rows, settings and seed give the same model."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Final, Literal

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel, Train
from streaming.errors import ConfigError
from streaming.models import manifest
from streaming.secrets import redact
from streaming.training import labels, pipeline, publish, quality, table
from streaming.training.algorithms import ALGORITHMS

log = logging.getLogger(__name__)

#: Rows of one partition. Up to here all sums are made in one order and two trainings agree bit for bit; above it, the
#: partitions' sums arrive in any order and the last digits may differ.
ROWS_PER_PARTITION: Final = 500_000

__all__ = ["TrainingReport", "train"]


@dataclass(frozen=True)
class TrainingReport:
    """What a training did and how good the result is."""

    name: str
    version: str
    algorithm: str
    uri: str
    #: The fingerprint of the saved files, to be pinned as model.sha256.
    sha256: str
    rows_read: int
    #: Rows dropped because they have no label.
    rows_without_label: int
    rows_train: int
    rows_test: int
    #: On the test rows.
    metrics: Mapping[str, float]
    #: The same on the same rows for a guess that knows only the training labels; empty for a clustering.
    baseline: Mapping[str, float]
    seconds: float

    @property
    def rows_used(self) -> int:
        """Rows that have a label: training and test together."""
        return self.rows_train + self.rows_test

    def text(self) -> str:
        """The report for people."""
        dropped = f", {self.rows_without_label} without a label dropped" if self.rows_without_label else ""
        lines = [
            f"{self.name} {self.version}: {self.algorithm}, {self.seconds:.1f} s",
            f"rows: {self.rows_read} read{dropped}; {self.rows_train} to train, {self.rows_test} to test",
            *([f"{'on the test rows':<18}{'model':>10}{'baseline':>10}"] if self.metrics else []),
        ]
        for name, value in self.metrics.items():
            beside = f"{self.baseline[name]:>10.4f}" if name in self.baseline else ""
            lines.append(f"{name:<18}{value:>10.4f}{beside}")
        return "\n".join([*lines, f"saved: {self.uri}", f"sha256: {self.sha256}"])


def train(
    section: Train, model: SavedModel, spark: SparkSession, *, source: str, overwrite: bool = False, slices: Sequence[str] = ()
) -> TrainingReport:
    """Train the pipeline that `section` describes and save it at `model.uri` with a manifest. Returns what came of it.

    A row belongs to the training or the test rows by its content and the seed; the rows are sorted by content before
    the first sum: neither the order of the rows nor the number of their files changes the model.
    `slices`: text features whose values the monitor will watch by themselves; the manifest has a baseline of each.
    ConfigError, naming `source`, on whatever the table or the settings make impossible, and when `model.uri` exists
    and `overwrite` is not set.
    """
    began = time.monotonic()
    if not overwrite:
        publish.refuse_existing(spark, model.uri, source=source)
    data = table.read(spark, section, source=source)
    try:
        return _train(section, model, data, source=source, overwrite=overwrite, began=began, slices=slices)
    finally:
        data.cached.unpersist()


def _train(
    section: Train, model: SavedModel, data: table.Table, *, source: str, overwrite: bool, began: float, slices: Sequence[str]
) -> TrainingReport:
    label = _label(section, data, source=source)
    split = _split(section, data, label, source=source)
    spark, to_train, to_test = data.rows.sparkSession, split.train.cache(), split.test.cache()
    try:
        fitted = _fit(to_train, section, classes=len(split.priors), source=source)
        metrics, baseline = _measure(fitted, to_train, to_test, kind=ALGORITHMS[section.algorithm].kind, priors=split.priors)
        watched = _baseline(fitted, to_train, to_test, section, model.name, slices, classes=len(split.priors))
    finally:
        to_train.unpersist()
        to_test.unpersist()
    rows = {"read": data.rows_read, "without_label": data.rows_without_label, "train": split.n_train, "test": split.n_test}
    details = _details(section, model, data, label) | {
        "rows": rows,
        "metrics": metrics,
        "baseline": baseline,
        "made_by": publish.made_by(spark),
        manifest.BASELINE: watched,
        "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    sha256 = publish.save(spark, fitted, model.uri, details=details, overwrite=overwrite, source=source)
    seconds = time.monotonic() - began
    log.info("trained model=%s version=%s rows=%d seconds=%.1f uri=%s", model.name, model.version, data.rows_used, seconds, model.uri)
    return TrainingReport(
        name=model.name, version=model.version, algorithm=section.algorithm, uri=model.uri, sha256=sha256,
        rows_read=data.rows_read, rows_without_label=data.rows_without_label, rows_train=split.n_train, rows_test=split.n_test,
        metrics=metrics, baseline=baseline, seconds=seconds,
    )  # fmt: skip


def _label(section: Train, data: table.Table, *, source: str) -> labels.Label | None:
    match ALGORITHMS[section.algorithm].kind:
        case "classification":
            return labels.class_label(data.rows, section, source=source)
        case "regression":
            return labels.numeric_label(data.rows, section, source=source)
        case _:
            return None


@dataclass(frozen=True)
class _Split:
    """The rows to train on and those to test on, each in an order that depends on their content alone."""

    train: DataFrame
    test: DataFrame
    n_train: int
    n_test: int
    #: Class -> its share of the training rows. Empty unless a classifier is trained.
    priors: Mapping[int, float]


def _split(section: Train, data: table.Table, label: labels.Label | None, *, source: str) -> _Split:
    rows = data.rows if label is None else data.rows.withColumn("_label", label.column)
    held_out = table.is_test(fraction=section.test_fraction, seed=section.seed)
    kinds = [F.col("_label")] if label is not None and label.mapping else []
    counted = rows.groupBy(held_out.alias("_held_out"), *kinds).count().collect()
    n_train, n_test = (sum(int(row["count"]) for row in counted if row["_held_out"] is side) for side in (False, True))
    if min(n_train, n_test) == 0:
        raise ConfigError(
            f"{source}: train.test_fraction: {section.test_fraction} leaves {n_train} rows to train and {n_test} to test; "
            f"expected at least one of each: give {section.data} more rows, or change the fraction"
        )
    priors = {int(row["_label"]): int(row["count"]) / n_train for row in counted if kinds and not row["_held_out"]}
    absent = sorted(value for value, index in (label.mapping if label is not None else {}).items() if index not in priors)
    if absent:
        raise ConfigError(
            f"{source}: train.label: all rows of {', '.join(map(repr, absent[:10]))} fell into the test rows; give it more rows, or change train.seed"
        )
    train, test = (_in_order(rows.filter(side), data) for side in (~held_out, held_out))
    return _Split(train, test, n_train, n_test, dict(sorted(priors.items())))


def _in_order(rows: DataFrame, data: table.Table) -> DataFrame:
    """The rows in an order that depends on their content alone: what sums and samples give must not depend on files."""
    partitions = math.ceil(data.rows_used / ROWS_PER_PARTITION)
    spread = rows.coalesce(1) if partitions == 1 else rows.repartition(partitions, "_hash")
    return spread.sortWithinPartitions("_hash", *(f"`{name}`" for name in data.features.fieldNames()))


def _fit(to_train: DataFrame, section: Train, *, classes: int, source: str) -> PipelineModel:
    try:
        return pipeline.fit(to_train, section, classes=classes, source=source)
    except (PySparkException, Py4JJavaError) as refused:
        cause = str(refused.java_exception) if isinstance(refused, Py4JJavaError) else str(refused)
        raise ConfigError(
            f"{source}: train.algorithm: {section.algorithm} cannot learn from {section.data}: {cause.splitlines()[0]}"
        ) from refused


def _measure(
    fitted: PipelineModel, to_train: DataFrame, to_test: DataFrame, *, kind: str, priors: Mapping[int, float]
) -> tuple[dict[str, float], dict[str, float]]:
    wanted = {"_label", "features", "prediction", "probability", "rawPrediction"}
    scored = fitted.transform(to_test)
    scored = scored.select(*(name for name in scored.columns if name in wanted)).cache()
    try:
        if kind == "classification":
            return quality.of_classes(scored, priors)
        if kind == "clustering":
            return quality.of_clusters(scored)
        return quality.of_numbers(scored, _mean(to_train))
    finally:
        scored.unpersist()


def _baseline(
    fitted: PipelineModel, to_train: DataFrame, to_test: DataFrame, section: Train, model: str, slices: Sequence[str], *, classes: int
) -> dict[str, Any] | None:
    """What the monitor will hold the stream against; None without the package that it computes with."""
    if find_spec("scipy") is None:
        log.info("no baseline for the monitor: pip install 'streaming-scoring[monitor]'")
        return None
    from streaming.models import baselines

    kind = ALGORITHMS[section.algorithm].kind
    task: Literal["probability", "class", "number"] = "number" if kind == "regression" else "probability" if classes == 2 else "class"
    scored = fitted.transform(to_test)
    probability = vector_to_array(F.col("probability")) if task == "probability" else F.lit(None).cast("array<double>")
    label = F.col("_label") if "_label" in scored.columns else F.lit(None)
    answered = scored.withColumns({"probability": probability, "_label": label.cast("double")})
    return baselines.of_frames(
        to_train, answered, columns=[*section.categorical, *section.numeric], slices=slices, model=model, task=task, source="training"
    ).to_json()


def _mean(to_train: DataFrame) -> float:
    mean = to_train.agg(F.avg("_label").alias("mean")).first()
    assert mean is not None, "an aggregate without groups has one row"
    return float(mean["mean"])


def _details(section: Train, model: SavedModel, data: table.Table, label: labels.Label | None) -> dict[str, Any]:
    """What the manifest says beyond the quality of the model."""
    return {
        "name": model.name,
        "version": model.version,
        "algorithm": section.algorithm,
        "params": dict(section.params),
        "features": {"schema": data.features.toDDL(), "categorical": list(section.categorical), "numeric": list(section.numeric)},
        "label": None if label is None else {"column": section.label, "positive": section.positive_label, "classes": label.mapping},
        "data": {"path": redact(section.data), "format": section.format, "hash": data.sha},
        "test_fraction": section.test_fraction,
        "seed": section.seed,
    }
