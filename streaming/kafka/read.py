"""Topics as frames: without an end for a lane, or a bounded range for everything that asks what stands there now."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession

from streaming.config.sections import Kafka
from streaming.kafka.client import spark_options


def stream(
    spark: SparkSession,
    kafka: Kafka,
    topic: str,
    *,
    starting: str = "earliest",
    fail_on_data_loss: bool = True,
    max_records: int | None = None,
    headers: bool = False,
) -> DataFrame:
    """The topic (or several, with commas) as an unbounded frame with Spark's Kafka columns (key, value, topic, partition, offset, timestamp, …)."""
    reader = spark.readStream.format("kafka").options(**spark_options(kafka)).option("subscribe", topic)
    reader = reader.option("startingOffsets", starting).option("failOnDataLoss", str(fail_on_data_loss).lower())
    if headers:
        reader = reader.option("includeHeaders", "true")
    if max_records is not None:
        reader = reader.option("maxOffsetsPerTrigger", str(max_records))
    return reader.load()


def between(spark: SparkSession, kafka: Kafka, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> DataFrame:
    """The records from `start` to before `end` (partition -> offset; the same partitions in both), with their headers."""
    bounds = {"startingOffsets": start, "endingOffsets": end}
    reader = spark.read.format("kafka").options(**spark_options(kafka)).option("includeHeaders", "true")
    reader = reader.option("assign", json.dumps({topic: sorted(start)}))
    for name, bound in bounds.items():
        reader = reader.option(name, json.dumps({topic: {str(p): offset for p, offset in bound.items()}}))
    return reader.load()


def whole(spark: SparkSession, kafka: Kafka, topic: str) -> DataFrame:
    """All records that stand on the topic when the frame is read, with their headers."""
    reader = spark.read.format("kafka").options(**spark_options(kafka)).option("includeHeaders", "true")
    return reader.option("subscribe", topic).load()
