"""Why a lane died is told by the classes of its causes, with the right exit code, and without a secret."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming import secrets
from streaming.errors import BrokerUnavailable, ConfigError, LaneDied, StateError, StreamingError
from streaming.job.failures import explain


def died(spark: SparkSession, cause: Any) -> StreamingQuery:
    """A query that ended with `cause`: a real Java exception."""
    return cast(StreamingQuery, SimpleNamespace(_jsq=SimpleNamespace(exception=lambda: cast(Any, spark)._jvm.scala.Option.apply(cause))))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("org.apache.kafka.common.errors.SaslAuthenticationException", ConfigError),
        ("org.apache.kafka.common.errors.TopicAuthorizationException", ConfigError),
        ("org.apache.kafka.common.errors.RecordTooLargeException", ConfigError),
        ("org.apache.kafka.common.errors.UnknownTopicOrPartitionException", ConfigError),
        ("org.apache.kafka.common.errors.TimeoutException", BrokerUnavailable),
        ("org.apache.kafka.common.errors.DisconnectException", BrokerUnavailable),
        ("org.apache.kafka.clients.consumer.OffsetOutOfRangeException", StateError),
        ("java.lang.IllegalStateException", LaneDied),
    ],
)
def test_the_class_of_the_deepest_cause_decides(spark: SparkSession, name: str, kind: type[StreamingError]) -> None:
    jvm: Any = spark._jvm
    made = jvm
    for part in name.split("."):
        made = getattr(made, part)
    deepest = made(jvm.java.util.HashMap()) if "OffsetOutOfRange" in name else made("what happened password=hunter2")
    error = explain("score", died(spark, jvm.java.lang.RuntimeException("outer", jvm.java.lang.RuntimeException(deepest))))
    assert type(error) is kind
    assert str(error).startswith("lane score: ")
    assert "hunter2" not in str(error)


def test_a_query_that_just_stopped(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    error = explain("store", died(spark, None))
    assert type(error) is LaneDied
    assert "stopped without an error" in str(error)
