"""Topics as frames: without an end for a lane, or a bounded range for everything that asks what stands there now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import reduce
from itertools import zip_longest
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from streaming.config.sections import Kafka
from streaming.kafka.client import READS, spark_options

_GAP: Final = 10_000


def _options(kafka: Kafka) -> dict[str, str]:
    """How topics are read: without the records of transactions that were aborted or are still open, unless kafka.options say otherwise."""
    return {f"kafka.{key}": value for key, value in READS.items()} | spark_options(kafka)


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
    """The topic (or several, with commas) as an unbounded frame with Spark's Kafka columns (key, value, topic, partition, offset, timestamp, …).

    `headers`: with those of the records, which a lane that may reject them hands on.
    """
    reader = spark.readStream.format("kafka").options(**_options(kafka)).option("subscribe", topic)
    reader = reader.option("startingOffsets", starting).option("failOnDataLoss", str(fail_on_data_loss).lower())
    if headers:
        reader = reader.option("includeHeaders", "true")
    if max_records is not None:
        reader = reader.option("maxOffsetsPerTrigger", str(max_records))
    return reader.load()


def between(
    spark: SparkSession, kafka: Kafka, topic: str, start: Mapping[int, int], end: Mapping[int, int], *, all_there: bool = True
) -> DataFrame:
    """The records from `start` to before `end` (partition -> offset; the same partitions in both), with their headers.

    An error when the broker has deleted some of them, unless not `all_there`.
    """
    bounds = {"startingOffsets": start, "endingOffsets": end}
    reader = spark.read.format("kafka").options(**_options(kafka)).option("includeHeaders", "true")
    reader = reader.option("failOnDataLoss", str(all_there).lower())
    reader = reader.option("assign", json.dumps({topic: sorted(start)}))
    for name, bound in bounds.items():
        reader = reader.option(name, json.dumps({topic: {str(p): offset for p, offset in bound.items()}}))
    return reader.load()


def whole(spark: SparkSession, kafka: Kafka, topic: str) -> DataFrame:
    """All records that stand on the topic when the frame is read, with their headers."""
    reader = spark.read.format("kafka").options(**_options(kafka)).option("includeHeaders", "true")
    return reader.option("subscribe", topic).load()


def around(spark: SparkSession, kafka: Kafka, topic: str, offsets: Mapping[int, Iterable[int]]) -> DataFrame:
    """The records at these offsets (partition -> offsets), and some between them, as far as they still stand on the topic."""
    ranges = [{partition: run for partition, run in each if run is not None} for each in _side_by_side(offsets)]
    reads = [
        between(spark, kafka, topic, {p: run[0] for p, run in part.items()}, {p: run[1] + 1 for p, run in part.items()}, all_there=False)
        for part in ranges
    ]
    return reduce(DataFrame.unionByName, reads)


def _side_by_side(offsets: Mapping[int, Iterable[int]]) -> list[list[tuple[int, tuple[int, int] | None]]]:
    """The runs of each partition, one of each at a time: Spark reads one range of a partition."""
    each = {partition: runs(sorted(wanted)) for partition, wanted in offsets.items()}
    return [list(zip(each, part, strict=True)) for part in zip_longest(*each.values())]


def runs(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending offsets as ranges, first and last, wherever more than 10,000 in a row are not wanted: a read costs as much as those."""
    made: list[tuple[int, int]] = []
    for offset in offsets:
        if made and offset - made[-1][1] <= _GAP:
            made[-1] = (made[-1][0], offset)
        else:
            made.append((offset, offset))
    return made
