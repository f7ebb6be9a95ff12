"""Spark starts beside the imports, and what keeps it from starting is told by whoever needs it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.errors import EnvironmentFailure
from streaming.runtime import session

CONFIG: Any = SimpleNamespace()


def test_the_block_runs_while_spark_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    importing, started = threading.Event(), threading.Event()

    def start(config: Any) -> None:
        assert config is CONFIG
        assert importing.wait(30)
        started.set()

    monkeypatch.setattr(session, "of_job", start)
    with session.ahead(CONFIG):
        assert not started.is_set()
        importing.set()
    assert started.is_set()  # the block does not end before


def test_a_start_that_fails_is_left_to_who_needs_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Any, **_: Any) -> None:
        raise EnvironmentFailure("no java")

    monkeypatch.setattr(session, "of_job", fail)
    with session.ahead(CONFIG), pytest.raises(EnvironmentFailure, match="no java"), session.running(CONFIG):
        pytest.fail("there is no session")


def test_what_fails_in_the_block_is_raised_when_the_start_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []
    monkeypatch.setattr(session, "of_job", lambda config, **_: done.append(True))
    with pytest.raises(ValueError, match="in the block"), session.ahead(CONFIG):
        raise ValueError("in the block")
    assert done == [True]


def test_under_spark_submit_nothing_is_started_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(session, "of_job", lambda config, **_: pytest.fail("started"))
    with session.ahead(CONFIG):
        pass
