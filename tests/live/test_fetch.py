"""One record by its place, from a real broker, without a JVM."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from kafka import KafkaProducer

from streaming.config.sections import Kafka
from streaming.embedded.broker import Broker
from streaming.errors import BrokerUnavailable
from streaming.kafka.fetch import Fetcher


def test_a_record_is_read_by_its_place_and_what_is_gone_is_none(broker: Broker, topics: Callable[..., str]) -> None:
    topic, empty = topics(2), topics(1)
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        for n in range(3):
            producer.send(topic, value=f"{n}".encode(), partition=1)
        producer.flush()
    fetcher = Fetcher(Kafka.model_validate({"bootstrap_servers": broker.bootstrap_servers}))
    try:
        assert [fetcher.value(topic, 1, n) for n in (1, 0, 2, 2, 3)] == [b"1", b"0", b"2", b"2", None]
        assert fetcher.value(topic, 0, 0) is None
        assert fetcher.value(empty, 0, 0) is None
    finally:
        fetcher.close()


def test_a_broker_that_is_not_there_is_said_in_time() -> None:
    fetcher = Fetcher(Kafka.model_validate({"bootstrap_servers": "127.0.0.1:1"}), seconds=1.0)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
            fetcher.value("customers", 0, 0)
