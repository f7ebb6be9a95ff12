"""Kafka as Spark reads it, and the few questions asked of a broker: which topics, how many partitions, where they end.

The questions go through the JVM's own client, so the options of the config (`kafka.options`: TLS, SASL, key stores)
mean exactly the same everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from streaming import secrets
from streaming.config.sections import Kafka
from streaming.errors import BrokerUnavailable, ConfigError, EnvironmentFailure, StreamingError

#: How long the broker may take to answer a question.
ANSWER_WITHIN_MS: Final = 15_000


def spark_options(kafka: Kafka) -> dict[str, str]:
    """The broker's address and the client options, as Spark's Kafka source and sink take them."""
    return {"kafka.bootstrap.servers": kafka.bootstrap_servers} | {f"kafka.{key}": value for key, value in kafka.plain_options().items()}


def read(
    spark: SparkSession,
    kafka: Kafka,
    topic: str,
    *,
    starting: str = "earliest",
    fail_on_data_loss: bool = True,
    max_records: int | None = None,
) -> DataFrame:
    """The topic as an unbounded frame with Spark's Kafka columns (key, value, topic, partition, offset, timestamp, …)."""
    reader = spark.readStream.format("kafka").options(**spark_options(kafka)).option("subscribe", topic)
    reader = reader.option("startingOffsets", starting).option("failOnDataLoss", str(fail_on_data_loss).lower())
    if max_records is not None:
        reader = reader.option("maxOffsetsPerTrigger", str(max_records))
    return reader.load()


def partitions(spark: SparkSession, kafka: Kafka, topics: Iterable[str]) -> dict[str, int]:
    """The number of partitions of each topic that exists; a missing topic is not in the answer."""
    with _admin(spark, kafka) as admin:
        described = admin.describeTopics(_java_list(spark, topics)).topicNameValues()
        found = {}
        for topic in topics:
            try:
                found[topic] = int(described.get(topic).get().partitions().size())
            except Py4JJavaError as error:
                if "UnknownTopicOrPartitionException" not in _causes(error):
                    raise
        return found


def offsets(spark: SparkSession, kafka: Kafka, topic: str, where: str | int) -> dict[int, int]:
    """The offset of each partition at `where`: earliest, latest, or the first at or after a time (milliseconds since 1970).

    A partition without a record that late gives its end. Empty when there is no such topic.
    """
    jvm = _jvm(spark)
    spec = jvm.org.apache.kafka.clients.admin.OffsetSpec
    n = partitions(spark, kafka, [topic]).get(topic, 0)
    places = [jvm.org.apache.kafka.common.TopicPartition(topic, p) for p in range(n)]

    def ask(admin: Any, at: Any) -> dict[int, int]:
        wanted = jvm.java.util.HashMap()
        for place in places:
            wanted.put(place, at)
        found = admin.listOffsets(wanted).all().get()
        return {p: int(found.get(place).offset()) for p, place in enumerate(places)}

    with _admin(spark, kafka) as admin:
        if where == "earliest":
            return ask(admin, spec.earliest())
        ends = ask(admin, spec.latest())
        if where == "latest":
            return ends
        return {p: ends[p] if found < 0 else found for p, found in ask(admin, spec.forTimestamp(int(where))).items()}


def create_topics(
    spark: SparkSession, kafka: Kafka, wanted: Mapping[str, int], *, replication: int = -1, settings: Mapping[str, str] | None = None
) -> list[str]:
    """Create the topics (name -> partitions) that are missing; returns their names. Replication -1: the broker's default.

    `settings`: topic settings by their Kafka names, for the new ones.
    """
    there = partitions(spark, kafka, wanted)
    missing = {topic: n for topic, n in wanted.items() if topic not in there}
    if missing:
        jvm = _jvm(spark)
        with _admin(spark, kafka) as admin:
            configs = jvm.java.util.HashMap()
            for key, value in (settings or {}).items():
                configs.put(key, value)
            new = [_new_topic(jvm, topic, n, replication).configs(configs) for topic, n in missing.items()]
            admin.createTopics(_java_list(spark, new)).all().get()
    return list(missing)


def _new_topic(jvm: Any, topic: str, n: int, replication: int) -> Any:
    present = jvm.java.util.Optional
    return jvm.org.apache.kafka.clients.admin.NewTopic(
        topic, present.of(n), present.empty() if replication < 1 else present.of(jvm.java.lang.Short.valueOf(str(replication)))
    )


@dataclass
class Tail:
    """Where topics end, asked again and again by the progress watcher over one connection. Close it when done."""

    consumer: Any
    jvm: Any
    kafka: Kafka

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset of each partition of the topic. BrokerUnavailable when nobody answers within three seconds."""
        with _explained(self.kafka):
            found = self.consumer.endOffsets(self._all(topic))
            return {entry.getKey().partition(): int(entry.getValue()) for entry in found.entrySet()}

    def age_s(self, topic: str, read_to: Mapping[int, int]) -> float:
        """How old, in seconds, the oldest record at or behind the offsets `read_to` is; 0.0 when all is read."""
        with _explained(self.kafka):
            oldest = self._oldest_unread_ms(topic, read_to)
        return 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000.0)

    def _oldest_unread_ms(self, topic: str, read_to: Mapping[int, int]) -> int | None:
        ends = self.ends(topic)
        behind = {p: offset for p, offset in read_to.items() if offset < ends.get(p, 0)}
        oldest: int | None = None
        for partition, offset in behind.items():
            at = self.jvm.org.apache.kafka.common.TopicPartition(topic, partition)
            one = self.jvm.java.util.ArrayList()
            one.add(at)
            self.consumer.assign(one)
            self.consumer.seek(at, offset)
            records = self.consumer.poll(self.jvm.java.time.Duration.ofMillis(500)).iterator()
            if records.hasNext():
                stamp = int(records.next().timestamp())
                oldest = stamp if oldest is None else min(oldest, stamp)
        return oldest

    def close(self) -> None:
        """Let the connection go."""
        self.consumer.close()

    def _all(self, topic: str) -> Any:
        found = self.jvm.java.util.ArrayList()
        for info in self.consumer.partitionsFor(topic):
            found.add(self.jvm.org.apache.kafka.common.TopicPartition(topic, info.partition()))
        return found


def tail(spark: SparkSession, kafka: Kafka) -> Tail:
    """A connection that answers where topics end."""
    jvm = _jvm(spark)
    properties = _properties(jvm, kafka)
    for key in ("key.deserializer", "value.deserializer"):
        properties.put(key, "org.apache.kafka.common.serialization.ByteArrayDeserializer")
    properties.put("enable.auto.commit", "false")
    properties.put("max.poll.records", "1")
    properties.put("default.api.timeout.ms", "3000")
    properties.put("request.timeout.ms", "3000")
    with _explained(kafka):
        return Tail(jvm.org.apache.kafka.clients.consumer.KafkaConsumer(properties), jvm, kafka)


@contextmanager
def _admin(spark: SparkSession, kafka: Kafka) -> Iterator[Any]:
    jvm = _jvm(spark)
    with _explained(kafka):
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(_properties(jvm, kafka))
        try:
            yield admin
        finally:
            admin.close(jvm.java.time.Duration.ofSeconds(1))


@contextmanager
def _explained(kafka: Kafka) -> Iterator[None]:
    try:
        yield
    except Py4JJavaError as error:
        raise explain(error, kafka) from error


def explain(error: Py4JJavaError, kafka: Kafka) -> StreamingError:
    """The error of a Kafka client in this project's words: what a restart can mend and what it cannot, by its class."""
    causes = _causes(error)
    where, message = kafka.bootstrap_servers, secrets.redact(_message(error))
    if causes & {"SaslAuthenticationException", "SslAuthenticationException", "AuthenticationException"}:
        return ConfigError(f"Kafka at {where} refused the credentials: {message}; check kafka.options (sasl.*, ssl.*)")
    if causes & {"TopicAuthorizationException", "ClusterAuthorizationException", "GroupAuthorizationException", "AuthorizationException"}:
        return ConfigError(f"Kafka at {where}: not allowed: {message}; ask for the ACL or use another principal in kafka.options")
    if causes & {"ConfigException", "InvalidTopicException", "InvalidReplicationFactorException"}:
        return ConfigError(f"Kafka client for {where}: {message}; check kafka.bootstrap_servers and kafka.options")
    return BrokerUnavailable(
        f"Kafka at {where} does not answer: {message}; check the address (kafka.bootstrap_servers), that the broker runs "
        "and that its port is open (a development broker: streaming kafka)"
    )


def _jvm(spark: SparkSession) -> Any:
    jvm: Any = spark._jvm
    # A package without the class is a py4j JavaPackage, and calling it would say nothing useful.
    if type(jvm.org.apache.kafka.clients.admin.AdminClient).__name__ == "JavaPackage":
        raise EnvironmentFailure(
            'Spark runs without the Kafka connector; under spark-submit add its jars: spark-submit --jars "$(streaming jars)" …'
        )
    return jvm


def _properties(jvm: Any, kafka: Kafka) -> Any:
    properties = jvm.java.util.Properties()
    for key, value in ({"bootstrap.servers": kafka.bootstrap_servers} | kafka.plain_options()).items():
        properties.put(key, value)
    properties.put("default.api.timeout.ms", str(ANSWER_WITHIN_MS))
    properties.put("request.timeout.ms", str(ANSWER_WITHIN_MS // 3))
    return properties


def _java_list(spark: SparkSession, values: Iterable[Any]) -> Any:
    found = _jvm(spark).java.util.ArrayList()
    for value in values:
        found.add(value)
    return found


def _causes(error: Py4JJavaError) -> set[str]:
    """The simple class names of a Java exception, its causes and their super classes."""
    names: set[str] = set()
    cause = error.java_exception
    while cause is not None:
        kind = cause.getClass()
        while kind is not None:
            names.add(str(kind.getSimpleName()))
            kind = kind.getSuperclass()
        cause = cause.getCause()
    return names


def _message(error: Py4JJavaError) -> str:
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return " ".join(str(cause.getMessage() or cause.getClass().getSimpleName()).split())
