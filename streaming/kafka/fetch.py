"""One record by its place, for a process without a JVM: kafka-python, with the options of the config in its words."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streaming.config.sections import Kafka
from streaming.errors import BrokerUnavailable, ConfigError

#: The JVM client's option -> kafka-python's.
_SAME: Final = {"security.protocol": "security_protocol", "sasl.mechanism": "sasl_mechanism"}
_PEM: Final = {
    "ssl.truststore.location": "ssl_cafile",
    "ssl.keystore.location": "ssl_certfile",
    "ssl.key.password": "ssl_password",
}
_JAAS: Final = re.compile(r'\b(username|password)="((?:[^"\\]|\\.)*)"')


class Fetcher:
    """Reads records by their place, one at a time; one connection that is kept. Safe to call from several threads."""

    def __init__(self, kafka: Kafka, *, seconds: float = 3.0) -> None:
        self._kafka, self._seconds = kafka, seconds
        self._lock = threading.Lock()
        self._consumer: Any = None

    def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The value of the record there; None when it is gone (retention, compaction), or never was.

        BrokerUnavailable when the broker does not answer in time; ConfigError when its options cannot be meant here.
        """
        with self._lock:
            try:
                return self._value(TopicPartition(topic, partition), offset)
            except (KafkaError, OSError, AssertionError) as broken:
                self.close()
                raise BrokerUnavailable(f"Kafka at {self._kafka.bootstrap_servers} does not answer: {type(broken).__name__}") from broken

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(Exception):
                consumer.close()

    def _value(self, place: TopicPartition, offset: int) -> bytes | None:
        if self._consumer is None:
            within_ms = round(1000 * self._seconds)
            self._consumer = KafkaConsumer(**options(self._kafka), request_timeout_ms=within_ms, bootstrap_timeout_ms=within_ms)
        consumer = self._consumer
        consumer.assign([place])
        first, end = consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
        if not first <= offset < end:
            return None
        consumer.seek(place, offset)
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            for record in consumer.poll(timeout_ms=100, max_records=1).get(place, ()):
                # Compaction may have removed it: the next one that is left comes instead.
                return record.value if record.offset == offset else None
        raise OSError("no record within the time")


def options(kafka: Kafka) -> dict[str, Any]:
    """kafka-python's settings for the same broker, with the same rights. ConfigError when the options have no meaning there."""
    given = kafka.plain_options()
    made: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap_servers.split(","), "enable_auto_commit": False, "max_poll_records": 1}
    made |= {_SAME[name]: value for name, value in given.items() if name in _SAME}
    for name, value in given.items():
        if name in _PEM:
            kind = given.get(name.replace("location", "type"), "PEM" if name.endswith("password") else "JKS")
            if kind != "PEM":
                raise ConfigError(f"kafka.options: {name}: a {kind} store is read by Java alone; this process needs PEM files")
            made[_PEM[name]] = value
    if "ssl_certfile" in made:
        made["ssl_keyfile"] = made["ssl_certfile"]
    if given.get("ssl.endpoint.identification.algorithm") == "":
        made["ssl_check_hostname"] = False
    if "sasl.jaas.config" in given:
        named = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _JAAS.findall(given["sasl.jaas.config"])}
        if named.keys() != {"username", "password"}:
            raise ConfigError("kafka.options: sasl.jaas.config: this process signs in with a username and a password only")
        made |= {"sasl_plain_username": named["username"], "sasl_plain_password": named["password"]}
    return made
