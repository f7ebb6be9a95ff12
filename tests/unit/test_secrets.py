"""No secret survives in a text that people read, and what is no secret does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import secrets


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://churn:hunter2@db:5432/churn failed", "postgresql://churn:***@db:5432/churn failed"),
        ("redis://:hunter2@db:6379/0", "redis://:***@db:6379/0"),
        ("postgresql://u:hun@ter2@db/churn", "postgresql://u:***@db/churn"),
        ("postgresql://u:hun/ter2@db/churn", "postgresql://u:***@db/churn"),
        ("s3a://key:hunter2@bucket/a and redis://u:hunter2@h", "s3a://key:***@bucket/a and redis://u:***@h"),
        ('ScramLoginModule required username="u" password="hun ter2";', 'ScramLoginModule required username="u" password=***;'),
        ("host=h password='hun ter2' dbname=d", "host=h password=*** dbname=d"),
        ("ssl.truststore.password=hunter2, x=1", "ssl.truststore.password=***, x=1"),
        ('{"client_secret": "hunter2"}', '{"client_secret": ***}'),
        ("PASSWORD: hunter2", "PASSWORD: ***"),
        ("token=hunter2", "token=***"),
    ],
)
def test_passwords_are_masked_wherever_they_come_from(text: str, expected: str) -> None:
    assert secrets.redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://localhost:8080/a",
        "postgresql://churn@db/churn",
        "wrong password for user churn",
        "at 12:30 mail a@b.c",
        "kafka://h:9092",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert secrets.redact(text) == text


def test_remembered_values_are_masked_the_longest_first() -> None:
    for value in ("abcd", "abcdef", "xyz"):
        secrets.remember(value)
    assert secrets.redact("abcdef abcd xyz") == "*** *** xyz"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=4), st.text(), st.text())
def test_a_remembered_value_never_survives(value: str, before: str, after: str) -> None:
    secrets._known.clear()
    secrets.remember(value)
    assert value not in secrets.redact(before + value + after)
