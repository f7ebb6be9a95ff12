"""The event behind a stored prediction: its fields, and who may not be read through it."""

from __future__ import annotations

from typing import Any

import pytest

from streaming.api.events import EventFields
from streaming.config.sections import Events, Kafka
from streaming.errors import ConfigError, StateError
from streaming.kafka import fetch

EVENTS = Events.model_validate({"topic": "customers", "schema": "id STRING, c STRUCT<a: INT>", "key": "id", "columns": {"a": "c.a"}})


class Topic:
    """Records by offset; notes what was read."""

    def __init__(self, *values: bytes | None) -> None:
        self.values = values
        self.read: list[tuple[str, int, int]] = []

    def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        self.read.append((topic, partition, offset))
        return self.values[offset]


def fields(value: bytes | None, event_id: str = "customers:0:0") -> dict[str, Any]:
    return EventFields(EVENTS, Topic(value)).of(event_id, ["id", "a", "text", "list", "tree"])


def test_fields_are_found_nested_or_not() -> None:
    got = fields(b'{"id": "C-1", "c": {"a": 4}, "text": null, "list": [1, 2.5], "tree": {"secret": 1}, "other": "never told"}')
    assert got == {"id": "C-1", "a": 4, "text": None, "list": [1, 2.5], "tree": None}


@pytest.mark.parametrize("value", [None, b"", b"{", b"[1]", b"null", b"\xff", b'"text"'])
def test_what_is_no_event_is_said(value: bytes | None) -> None:
    with pytest.raises(StateError, match=r"no longer on the topic|no JSON object"):
        fields(value)


@pytest.mark.parametrize("event_id", ["salaries:0:0", "customers2:0:0", "customers", "", "customers:0", "customers:-1:0", ":0:0"])
def test_no_other_topic_is_read(event_id: str) -> None:
    topic = Topic(b"{}")
    with pytest.raises(StateError, match=r"another topic|names no event"):
        EventFields(EVENTS, topic).of(event_id, ["id"])
    assert topic.read == []


def options(**given: str) -> dict[str, Any]:
    named = {key.replace("__", "."): value for key, value in given.items()}
    return fetch.options(Kafka.model_validate({"bootstrap_servers": "a:1,b:2", "options": named}))


def test_the_options_mean_the_same_to_the_other_client() -> None:
    made = options(
        security__protocol="SASL_SSL",
        sasl__mechanism="PLAIN",
        sasl__jaas__config='org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="p\\"w";',
        ssl__truststore__location="/ca.pem",
        ssl__truststore__type="PEM",
        max__poll__interval__ms="100",
    )
    assert made == {
        "bootstrap_servers": ["a:1", "b:2"],
        "enable_auto_commit": False,
        "max_poll_records": 1,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "me",
        "sasl_plain_password": 'p"w',
        "ssl_cafile": "/ca.pem",
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ssl__truststore__location": "/store.jks"}, "JKS store is read by Java alone"),
        ({"sasl__jaas__config": "com.sun.security.auth.module.Krb5LoginModule required;"}, "username and a password only"),
    ],
)
def test_options_that_only_java_understands_are_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        options(**given)
