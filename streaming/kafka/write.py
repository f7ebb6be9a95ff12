"""The one way of records to Kafka: a frame with the columns topic, key, value, headers, written once or as a stream goes."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming.config.sections import Kafka
from streaming.kafka.client import spark_options


def batch(records: DataFrame, kafka: Kafka) -> None:
    """Write the records; returns when the broker has them. At least once: a task that is tried again writes again."""
    records.write.format("kafka").options(**spark_options(kafka)).save()


def stream(records: DataFrame, kafka: Kafka, *, defaults: Mapping[str, str] | None = None) -> DataStreamWriter:
    """A writer for an unbounded frame; checkpoint, name and trigger are the lane's.

    `defaults`: options of the producer, spelled as Spark's sink takes them, that `kafka.options` may overrule.
    """
    return records.writeStream.format("kafka").options(**{**(defaults or {}), **spark_options(kafka)})
