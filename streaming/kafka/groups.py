"""How far a lane has read, told to the broker as a consumer group, so that Kafka's own tools show its lag.

Only told, never asked: a lane goes on from its checkpoint. Nothing is lost when a commit is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from streaming.config.sections import Kafka
from streaming.kafka.client import explained, java, properties


@dataclass
class Groups:
    """One connection for the groups of all lanes. Close it when done."""

    admin: Any
    jvm: Any
    kafka: Kafka

    def commit(self, group: str, read_to: Mapping[str, Mapping[int, int]]) -> None:
        """Set the group's offsets: topic -> partition -> next offset to read. BrokerUnavailable or ConfigError when the broker will not."""
        offsets = self.jvm.java.util.HashMap()
        for topic, partitions in read_to.items():
            for partition, offset in partitions.items():
                where = self.jvm.org.apache.kafka.common.TopicPartition(topic, partition)
                offsets.put(where, self.jvm.org.apache.kafka.clients.consumer.OffsetAndMetadata(offset))
        with explained(self.kafka):
            self.admin.alterConsumerGroupOffsets(group, offsets).all().get()

    def close(self) -> None:
        """Let the connection go."""
        self.admin.close(self.jvm.java.time.Duration.ofSeconds(1))


def groups(spark: SparkSession, kafka: Kafka) -> Groups:
    """A connection to commit over."""
    jvm = java(spark)
    options = properties(jvm, kafka)
    options.put("default.api.timeout.ms", "3000")
    options.put("request.timeout.ms", "3000")
    with explained(kafka):
        return Groups(jvm.org.apache.kafka.clients.admin.AdminClient.create(options), jvm, kafka)
