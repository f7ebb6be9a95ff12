"""A label that comes too late is rejected as such, neither learned nor lost without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming import config as cfg
from streaming.embedded.broker import Broker
from streaming.kafka import read, write
from streaming.lanes import learn
from streaming.learning import labels
from streaming.monitor import progress
from streaming.records.schema import event_schema
from streaming.runtime import files

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_each_label_that_the_join_drops_is_a_late_label(
    spark: SparkSession, broker: Broker, topics: Callable[..., str], tmp_path: Path
) -> None:
    config = cfg.parse(
        {
            "name": "t",
            "kafka": {"bootstrap_servers": broker.bootstrap_servers},
            "events": {"topic": "events", "key": "id", "schema": "id STRING"},
            "model": {"name": "saved", "version": "1", "uri": "x"},
            "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": topics()},
            "labels": {"topic": topics(), "max_delay": "1 hour"},
            "learners": [{"name": "m", "algorithm": "logistic_regression"}],
            "store": {"kind": "sqlite", "path": "x"},
            "state": str(tmp_path),
        }
    )
    assert config.labels is not None
    sent = 0

    def send(topic: str | None, values: list[dict[str, Any]]) -> None:
        frame = spark.createDataFrame([(json.dumps(value).encode(),) for value in values], "value BINARY").coalesce(1)
        write.batch(frame.withColumn("topic", F.lit(topic)), config.kafka)

    def time(minutes: int) -> str:
        return (START + timedelta(minutes=minutes)).isoformat().replace("+00:00", ".000000Z")

    def predict(*minutes: int) -> None:
        nonlocal sent
        rows = []
        for minute in minutes:
            rows.append({"event_id": f"events:0:{sent}", "key": f"c{minute}", "event_time": time(minute), "model": "m", "features": [1.0]})
            sent += 1
        send(config.predictions.shadow_topic, rows)

    def label(*minutes: int) -> None:
        send(config.labels.topic if config.labels else None, [{"key": f"c{m}", "event_time": time(m), "label": 1.0} for m in minutes])

    said: list[tuple[str, str | None]] = []
    offsets = files.folder(f"{tmp_path}/checkpoint/offsets", lambda: spark)

    def batch(rows: DataFrame, n: int) -> None:
        kept = labels.late(rows, learn.late_before(offsets, n), "1 hour")
        said.extend(
            (bytes(r["label_raw_value"]).decode()[9:14].split('"')[0], r["reason"])
            for r in kept.select("label_raw_value", "reason").collect()
        )

    schema = event_schema(spark, labels.label_events(config.labels))
    streams = [read.stream(spark, config.kafka, str(topic)) for topic in (config.predictions.shadow_topic, config.labels.topic)]
    query = (
        labels.pairs(labels.Inputs(streams[0], streams[1], schema), config)
        .writeStream.foreachBatch(batch)
        .option("checkpointLocation", f"{tmp_path}/checkpoint")
        .outputMode("append")
        .start()
    )
    try:
        predict(0, 300)
        label(0, 300)
        query.processAllAvailable()  # the watermark is at 240 minutes then
        predict(301)
        label(301)
        query.processAllAvailable()
        predict(10, 242)
        label(10, 20, 240, 242, 302)
        query.processAllAvailable()
        dropped = sum(progress.state(json.loads(entry.json())).get("late", 0) for entry in query._jsq.recentProgress())
    finally:
        query.stop()
    reasons = {number: reason for number, reason in said if reason is not None}
    assert reasons == {"c10": "late_label", "c20": "late_label", "c240": "late_label"}
    assert sorted(number for number, reason in said if reason is None) == ["c0", "c242", "c300", "c301"]
    assert dropped == 4, "three labels and one prediction are counted, too"
