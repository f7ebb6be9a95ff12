"""The records on the topics: their fields are the contract with producers and consumers.

A prediction is JSON with the fields of :data:`PREDICTION`; its Kafka key is the entity key, so one entity stays in
order in one partition. A rejected record keeps the original key and value bytes and says why in its headers.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, IntegerType, LongType, StringType, StructField, StructType, TimestampType

#: A prediction as it stands on the predictions topic. `event_id` is "topic:partition:offset" of the event.
#: `probability` is null unless the model is a classifier; `features` is null unless a learner needs it, `label` unless the event carried its own.
#: `model_version`, `prediction` and `probability` are null while a learner has learned nothing yet.
PREDICTION: Final = StructType(
    [
        StructField("event_id", StringType()),
        StructField("key", StringType()),
        StructField("event_time", TimestampType()),
        StructField("model", StringType()),
        StructField("model_version", StringType()),
        StructField("prediction", DoubleType()),
        StructField("probability", ArrayType(DoubleType())),
        StructField("features", ArrayType(DoubleType())),
        StructField("label", DoubleType()),
    ]
)

#: What a store is asked to keep: one row per (key, model). The row with the greatest
#: (event_time, source_partition, source_offset, scored_at) is the newest and stands.
#: `scored_at` is the Kafka timestamp of the prediction record. Only `probability` may be null.
STORED: Final = StructType(
    [
        StructField("key", StringType(), nullable=False),
        StructField("model", StringType(), nullable=False),
        StructField("event_time", TimestampType(), nullable=False),
        StructField("source_partition", IntegerType(), nullable=False),
        StructField("source_offset", LongType(), nullable=False),
        StructField("event_id", StringType(), nullable=False),
        StructField("model_version", StringType(), nullable=False),
        StructField("prediction", DoubleType(), nullable=False),
        StructField("probability", ArrayType(DoubleType()), nullable=True),
        StructField("scored_at", TimestampType(), nullable=False),
    ]
)

#: The columns that order two rows of the same (key, model): the greater tuple is the newer row.
NEWEST: Final = ("event_time", "source_partition", "source_offset", "scored_at")

#: Header names of a rejected record.
REJECTED_HEADERS: Final = ("reason", "error", "source_topic", "source_partition", "source_offset", "lane")

#: How a timestamp is written in JSON: ISO 8601, UTC, microseconds, so that nothing is lost on the way to the store.
TIMESTAMP_FORMAT: Final = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


def rejected_headers(*, reason: Column, error: Column, source: Column, lane: str) -> Column:
    """The headers of a rejected record. `source`: a struct with topic, partition and offset of the original record."""
    values = {
        "reason": reason,
        "error": error,
        "source_topic": source["topic"],
        "source_partition": source["partition"],
        "source_offset": source["offset"],
        "lane": F.lit(lane),
    }
    return F.array(
        *(F.struct(F.lit(name).alias("key"), values[name].cast("string").cast("binary").alias("value")) for name in REJECTED_HEADERS)
    )
