"""The one way of records to Kafka: a frame with the columns topic, key, value, headers, written once or as a stream goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql.streaming.readwriter import DataStreamWriter

from streaming.config.sections import Kafka
from streaming.kafka.client import spark_options

#: The producer's own limits on one record, where kafka.options do not name them.
_LIMITS: Final = {"max.request.size": 1 << 20, "buffer.memory": 32 << 20}


def room(kafka: Kafka) -> int:
    """How many bytes the key, the value and the headers of one record may have together, so that the producer takes it."""
    options = kafka.plain_options()
    limit = min(int(options[name]) if options.get(name, "").isdigit() else default for name, default in _LIMITS.items())
    # A batch has bytes of its own, and what cannot be compressed grows a little: by 4 bytes in 32 KiB with snappy, by less with the others.
    return limit - limit // 512 - 1024


def batch(records: DataFrame, kafka: Kafka) -> None:
    """Write the records; returns when the broker has them. At least once: a task that is tried again writes again."""
    records.write.format("kafka").options(**spark_options(kafka)).save()


def stream(records: DataFrame, kafka: Kafka, *, defaults: Mapping[str, str] | None = None) -> DataStreamWriter:
    """A writer for an unbounded frame; checkpoint, name and trigger are the lane's.

    `defaults`: options of the producer, spelled as Spark's sink takes them, that `kafka.options` may overrule.
    """
    return records.writeStream.format("kafka").options(**{**(defaults or {}), **spark_options(kafka)})
