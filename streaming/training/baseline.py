"""A baseline for a model that was trained elsewhere: of a table like the one that it was trained with, or of the stream's first hours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StructType

from streaming import adapters
from streaming.config.load import Config
from streaming.config.values import seconds
from streaming.errors import ConfigError
from streaming.kafka import admin, read
from streaming.models import baselines
from streaming.models.base import Model
from streaming.monitor.baseline import MOST_ROWS, Baseline
from streaming.records import events
from streaming.records.schema import META, PROBLEM, event_columns, event_schema


def of_table(config: Config, data: str, spark: SparkSession, *, label: str | None, positive: str | None, source: str) -> Baseline:
    """The baseline of a table: its columns under the names that an event has. With a label, the quality of the answers too."""
    schema = event_columns(event_schema(spark, config.events, source=source), config.events)
    try:
        table = _read(data, spark)
    except AnalysisException as missing:
        raise ConfigError(f"--data: {data}: cannot be read: {str(missing).splitlines()[0]}") from missing
    truth = _label(table, config, label, positive)
    rows = table.select(*(_field(table, field.name, schema) for field in schema), truth.cast("double").alias("_label"))
    return _of(rows, config, spark, source=data)


def _read(data: str, spark: SparkSession) -> DataFrame:
    ending = Path(data.rstrip("/")).suffix
    if ending == ".csv":
        return spark.read.option("header", True).csv(data)
    return spark.read.format("parquet" if ending == ".parquet" else "delta").load(data)


def _field(table: DataFrame, name: str, schema: StructType) -> Column:
    kind = schema[name].dataType
    return (F.col(f"`{name}`").try_cast(kind) if name in table.columns else F.lit(None).cast(kind)).alias(name)


def _label(table: DataFrame, config: Config, label: str | None, positive: str | None) -> Column:
    name = label or (config.train.label if config.train is not None else None)
    if name is None or name not in table.columns:
        if label is not None:
            raise ConfigError(f"--label: the table has no column {label!r}; its columns: {', '.join(table.columns)}")
        return F.lit(None)
    positive_class = positive or (config.train.positive_label if config.train is not None else None)
    if isinstance(table.schema[name].dataType, NumericType) or positive_class is None:
        return F.col(f"`{name}`").try_cast("double")
    return F.when(F.col(f"`{name}`").isNotNull(), (F.col(f"`{name}`").cast("string") == positive_class).cast("double"))


def of_stream(config: Config, duration: str, spark: SparkSession, *, source: str) -> Baseline:
    """The baseline of the first `duration` that stands on the events topic. ConfigError when nothing stands there."""
    try:
        length_ms = round(seconds(duration) * 1000)
    except ValueError as wrong:
        raise ConfigError(f"--stream: {wrong}") from wrong
    topic = config.events.topic
    first, last = (admin.offsets(spark, config.kafka, topic, where) for where in ("earliest", "latest"))
    if not any(last[p] > offset for p, offset in first.items()):
        raise ConfigError(f"--stream: no event stands on {topic} at {config.kafka.bootstrap_servers}")
    begin = read.between(spark, config.kafka, topic, first, {p: min(offset + 1, last[p]) for p, offset in first.items()})
    oldest = begin.agg(F.min(F.unix_millis("timestamp")).alias("ms")).first()
    assert oldest is not None
    until = admin.offsets(spark, config.kafka, topic, int(oldest["ms"]) + length_ms)
    schema = event_schema(spark, config.events, source=source)
    decoded = events.decode(read.between(spark, config.kafka, topic, first, until), config.events, schema)
    rows = decoded.where(F.col(PROBLEM).isNull()).drop(META, PROBLEM).withColumn("_label", F.lit(None).cast("double"))
    return _of(rows, config, spark, source=f"the first {duration} of {topic}")


def _of(rows: DataFrame, config: Config, spark: SparkSession, *, source: str) -> Baseline:
    model = cast(Model, adapters.model_of(config.model.format).load(config.model, spark))
    slices = () if config.monitor is None else config.monitor.slices
    missing = [name for name in slices if name not in rows.columns]
    if missing:
        raise ConfigError(f"monitor.slices: the event has no field {', '.join(missing)}; its fields: {', '.join(rows.columns[:-1])}")
    columns = [field.name for field in model.inputs().fields]
    rows = rows.limit(MOST_ROWS).cache()
    try:
        scored: Any = model.transform(rows).where(F.col("error").isNull())
        return baselines.of_frames(rows, scored, columns=columns, slices=slices, model=config.model.name, task=None, source=source)
    finally:
        rows.unpersist()
