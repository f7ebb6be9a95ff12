"""What every client of a broker is made of: its options, and its errors in this project's words.

The questions go through the JVM's own client, so the options of the config (`kafka.options`: TLS, SASL, key stores)
mean exactly the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from streaming.config.sections import Kafka
from streaming.errors import BrokerUnavailable, ConfigError, EnvironmentFailure, StreamingError
from streaming.kafka.causes import causes

#: How long the broker may take to answer a question.
ANSWER_WITHIN_MS: Final = 15_000

#: What everything that reads asks for, unless kafka.options say otherwise: records of an aborted transaction were never sent.
READS: Final = {"isolation.level": "read_committed"}


def spark_options(kafka: Kafka) -> dict[str, str]:
    """The broker's address and the client options, as Spark's Kafka source and sink take them."""
    return {"kafka.bootstrap.servers": kafka.bootstrap_servers} | {f"kafka.{key}": value for key, value in kafka.plain_options().items()}


def properties(jvm: Any, kafka: Kafka) -> Any:
    """The same for a client of our own, as java.util.Properties, with a bound on how long it waits."""
    made = jvm.java.util.Properties()
    for key, value in ({"bootstrap.servers": kafka.bootstrap_servers} | kafka.plain_options()).items():
        made.put(key, value)
    made.put("default.api.timeout.ms", str(ANSWER_WITHIN_MS))
    made.put("request.timeout.ms", str(ANSWER_WITHIN_MS // 3))
    return made


def java(spark: SparkSession) -> Any:
    """The JVM of the session. EnvironmentFailure when it has no Kafka client."""
    jvm: Any = spark._jvm
    # A package without the class is a py4j JavaPackage, and calling it would say nothing useful.
    if type(jvm.org.apache.kafka.clients.admin.AdminClient).__name__ == "JavaPackage":
        raise EnvironmentFailure(
            'Spark runs without the Kafka connector; under spark-submit add its jars: spark-submit --jars "$(streaming jars)" …'
        )
    return jvm


@contextmanager
def explained(kafka: Kafka) -> Iterator[None]:
    """Errors of a Kafka client inside the block are raised as this project's."""
    try:
        yield
    except Py4JJavaError as error:
        raise explain(error, kafka) from error


def explain(error: Py4JJavaError, kafka: Kafka) -> StreamingError:
    """The error of a Kafka client in this project's words: what a restart can mend and what it cannot, by its class."""
    chain = causes(error.java_exception)
    where, names, message = kafka.bootstrap_servers, chain.names, chain.message
    if names & {"SaslAuthenticationException", "SslAuthenticationException", "AuthenticationException"}:
        return ConfigError(f"Kafka at {where} refused the credentials: {message}; check kafka.options (sasl.*, ssl.*)")
    if names & {"TopicAuthorizationException", "ClusterAuthorizationException", "GroupAuthorizationException", "AuthorizationException"}:
        return ConfigError(f"Kafka at {where}: not allowed: {message}; ask for the ACL or use another principal in kafka.options")
    if names & {"ConfigException", "InvalidTopicException", "InvalidReplicationFactorException"}:
        return ConfigError(f"Kafka client for {where}: {message}; check kafka.bootstrap_servers and kafka.options")
    return BrokerUnavailable(
        f"Kafka at {where} does not answer: {message}; check the address (kafka.bootstrap_servers), that the broker runs "
        "and that its port is open (a development broker: streaming kafka)"
    )
