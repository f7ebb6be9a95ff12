"""Where topics end, and how old what nobody has read yet is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from streaming.config.sections import Kafka
from streaming.kafka.client import READS, explained, java, properties


@dataclass
class Tail:
    """Where topics end, asked again and again by the progress watcher over one connection. Close it when done."""

    consumer: Any
    jvm: Any
    kafka: Kafka

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset of each partition of the topic. BrokerUnavailable when nobody answers within three seconds."""
        with explained(self.kafka):
            ends = self.consumer.endOffsets(self._partitions(topic))
            return {entry.getKey().partition(): int(entry.getValue()) for entry in ends.entrySet()}

    def age_s(self, topic: str, read_to: Mapping[int, int]) -> float:
        """How old, in seconds, the oldest record at or behind the offsets `read_to` is; 0.0 when all is read."""
        with explained(self.kafka):
            oldest = self._oldest_unread_ms(topic, read_to)
        return 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000.0)

    def _oldest_unread_ms(self, topic: str, read_to: Mapping[int, int]) -> int | None:
        ends = self.ends(topic)
        behind = {p: offset for p, offset in read_to.items() if offset < ends.get(p, 0)}
        oldest: int | None = None
        for partition, offset in behind.items():
            at = self.jvm.org.apache.kafka.common.TopicPartition(topic, partition)
            alone = self.jvm.java.util.ArrayList()
            alone.add(at)
            self.consumer.assign(alone)
            self.consumer.seek(at, offset)
            records = self.consumer.poll(self.jvm.java.time.Duration.ofMillis(500)).iterator()
            if records.hasNext():
                stamp = int(records.next().timestamp())
                oldest = stamp if oldest is None else min(oldest, stamp)
        return oldest

    def close(self) -> None:
        """Let the connection go."""
        self.consumer.close()

    def _partitions(self, topic: str) -> Any:
        listed = self.jvm.java.util.ArrayList()
        for info in self.consumer.partitionsFor(topic):
            listed.add(self.jvm.org.apache.kafka.common.TopicPartition(topic, info.partition()))
        return listed


def tail(spark: SparkSession, kafka: Kafka) -> Tail:
    """A connection that answers where topics end."""
    jvm = java(spark)
    options = properties(jvm, kafka)
    for key, value in READS.items():
        options.putIfAbsent(key, value)
    for key in ("key.deserializer", "value.deserializer"):
        options.put(key, "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    options.put("enable.auto.commit", "false")
    options.put("metadata.max.age.ms", "30000")  # partitions that are added are seen soon
    options.put("max.poll.records", "1")
    options.put("default.api.timeout.ms", "3000")
    options.put("request.timeout.ms", "3000")
    with explained(kafka):
        return Tail(jvm.org.apache.kafka.clients.consumer.KafkaConsumer(options), jvm, kafka)
