"""Records of a transaction that was aborted, or is still open, are not there: not for a stream, a range, or the end of a topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kafka import KafkaProducer
from pyspark.sql import SparkSession

from streaming.config.sections import Kafka
from streaming.embedded.broker import Broker
from streaming.kafka import admin, read
from streaming.kafka.tail import tail


def test_aborted_records_are_read_by_nobody(spark: SparkSession, broker: Broker, topics: Callable[..., str], tmp_path: Path) -> None:
    topic, kafka = topics(), Kafka(bootstrap_servers=broker.bootstrap_servers)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=topic)
    producer.init_transactions()
    for name, end in (
        ("kept", producer.commit_transaction),
        ("aborted", producer.abort_transaction),
        ("later", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.send(topic, json.dumps(name).encode()).get(30)
        end()
    producer.begin_transaction()
    producer.send(topic, b'"open"').get(30)
    try:
        expected = [b'"kept"', b'"later"']
        assert sorted(bytes(r["value"]) for r in read.whole(spark, kafka, topic).collect()) == expected
        ends = admin.offsets(spark, kafka, topic, "latest")
        assert sorted(bytes(r["value"]) for r in read.between(spark, kafka, topic, {0: 0}, ends).collect()) == expected
        watcher = tail(spark, kafka)
        assert watcher.ends(topic) == ends == {0: 6}  # three records, and the marks of three ends
        watcher.close()
        out = str(tmp_path / "out")
        writer = read.stream(spark, kafka, topic).select("value").writeStream.format("parquet").option("path", out)
        writer.option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start().awaitTermination()
        assert sorted(bytes(r["value"]) for r in spark.read.parquet(out).collect()) == expected
        everything = kafka.model_copy(
            update={"options": Kafka.model_validate({"bootstrap_servers": "x", "options": {"isolation.level": "read_uncommitted"}}).options}
        )
        assert admin.offsets(spark, everything, topic, "latest") == {0: 7}
        assert read.whole(spark, everything, topic).count() == 4
    finally:
        producer.abort_transaction()
        producer.close()
