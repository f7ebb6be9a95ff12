"""The few questions asked of a broker: which topics, how many partitions, which offsets; and topics made and deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from streaming.config.sections import Kafka
from streaming.errors import ConfigError
from streaming.kafka.causes import causes
from streaming.kafka.client import READS, explained, java, properties


def partitions(spark: SparkSession, kafka: Kafka, topics: Iterable[str]) -> dict[str, int]:
    """The number of partitions of each topic that exists; a missing topic is not in the answer."""
    with _client(spark, kafka) as admin:
        described = admin.describeTopics(_java_list(spark, topics)).topicNameValues()
        known = {}
        for topic in topics:
            try:
                known[topic] = int(described.get(topic).get().partitions().size())
            except Py4JJavaError as error:
                if "UnknownTopicOrPartitionException" not in causes(error.java_exception).names:
                    raise
        return known


def ids(spark: SparkSession, kafka: Kafka, topics: Collection[str]) -> dict[str, str]:
    """The id that the broker gave each of these topics, which exist: a topic made anew has another. Empty where the broker knows none."""
    with _client(spark, kafka) as admin:
        described = admin.describeTopics(_java_list(spark, topics)).allTopicNames().get()
        named = {topic: described.get(topic).topicId() for topic in topics}
        none = java(spark).org.apache.kafka.common.Uuid.ZERO_UUID
        return {topic: str(topic_id.toString()) for topic, topic_id in named.items() if not topic_id.equals(none)}


def longest_records(spark: SparkSession, kafka: Kafka, topics: Collection[str]) -> dict[str, int]:
    """max.message.bytes of each of these topics, which exist; empty when the principal may not ask."""
    jvm = java(spark)
    resource, key = jvm.org.apache.kafka.common.config.ConfigResource, "max.message.bytes"
    places = {topic: resource(resource.Type.TOPIC, topic) for topic in topics}
    try:
        with _client(spark, kafka) as admin:
            configs = admin.describeConfigs(_java_list(spark, places.values())).all().get()
            return {topic: int(configs.get(place).get(key).value()) for topic, place in places.items()}
    except ConfigError:  # no ACL DescribeConfigs
        return {}


def offsets(spark: SparkSession, kafka: Kafka, topic: str, where: str | int) -> dict[int, int]:
    """The offset of each partition at `where`: earliest, latest, or the first at or after a time (milliseconds since 1970).

    A partition without a record that late gives its end. Empty when there is no such topic.
    """
    jvm = java(spark)
    spec = jvm.org.apache.kafka.clients.admin.OffsetSpec
    n = partitions(spark, kafka, [topic]).get(topic, 0)
    places = [jvm.org.apache.kafka.common.TopicPartition(topic, p) for p in range(n)]

    def ask(admin: Any, at: Any) -> dict[int, int]:
        wanted = jvm.java.util.HashMap()
        for place in places:
            wanted.put(place, at)
        listed = admin.listOffsets(wanted, jvm.org.apache.kafka.clients.admin.ListOffsetsOptions(_isolation(jvm, kafka))).all().get()
        return {p: int(listed.get(place).offset()) for p, place in enumerate(places)}

    with _client(spark, kafka) as admin:
        if where == "earliest":
            return ask(admin, spec.earliest())
        ends = ask(admin, spec.latest())
        if where == "latest":
            return ends
        return {p: ends[p] if first < 0 else first for p, first in ask(admin, spec.forTimestamp(int(where))).items()}


def _isolation(jvm: Any, kafka: Kafka) -> Any:
    """Where a topic ends for who reads: before the first transaction that is still open, unless kafka.options say otherwise."""
    level = (READS | kafka.plain_options())["isolation.level"]
    levels = jvm.org.apache.kafka.common.IsolationLevel
    return levels.READ_COMMITTED if level.lower() == "read_committed" else levels.READ_UNCOMMITTED


def create_topics(
    spark: SparkSession, kafka: Kafka, wanted: Mapping[str, int], *, replication: int = -1, settings: Mapping[str, str] | None = None
) -> list[str]:
    """Create the topics (name -> partitions) that are missing; returns their names. Replication -1: the broker's default.

    `settings`: topic settings by their Kafka names, for the new ones.
    """
    there = partitions(spark, kafka, wanted)
    missing = {topic: n for topic, n in wanted.items() if topic not in there}
    if missing:
        jvm = java(spark)
        with _client(spark, kafka) as admin:
            configs = jvm.java.util.HashMap()
            for key, value in (settings or {}).items():
                configs.put(key, value)
            new = [_new_topic(jvm, topic, n, replication).configs(configs) for topic, n in missing.items()]
            admin.createTopics(_java_list(spark, new)).all().get()
    return list(missing)


def delete_topics(spark: SparkSession, kafka: Kafka, topics: Iterable[str]) -> None:
    """Delete the topics and all that stands on them. BrokerUnavailable when one of them does not exist."""
    with _client(spark, kafka) as admin:
        admin.deleteTopics(_java_list(spark, topics)).all().get()


def _new_topic(jvm: Any, topic: str, n: int, replication: int) -> Any:
    present = jvm.java.util.Optional
    return jvm.org.apache.kafka.clients.admin.NewTopic(
        topic, present.of(n), present.empty() if replication < 1 else present.of(jvm.java.lang.Short.valueOf(str(replication)))
    )


@contextmanager
def _client(spark: SparkSession, kafka: Kafka) -> Iterator[Any]:
    jvm = java(spark)
    with explained(kafka):
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties(jvm, kafka))
        try:
            yield admin
        finally:
            admin.close(jvm.java.time.Duration.ofSeconds(1))


def _java_list(spark: SparkSession, values: Iterable[Any]) -> Any:
    listed = java(spark).java.util.ArrayList()
    for value in values:
        listed.add(value)
    return listed
