"""Topics that are not what they were, and topics that take less than is sent."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streaming.config.sections import Kafka
from streaming.errors import ConfigError, EnvironmentFailure, StateError
from streaming.job import preflight, service, topics
from streaming.kafka import read
from streaming.runtime.files import LocalFolder


def test_a_topic_made_anew_is_known_by_its_id(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    for ids in (
        {"events": "A", "predictions": "B"},
        {"events": "A"},
        {"events": "A", "labels": "C"},
        {},
    ):  # the last: a broker that knows no ids
        topics.agree(folder, ids, where="state")
        topics.remember(folder, ids)
    with pytest.raises(StateError, match=r"state: labels: deleted and made anew .*id D, was C.*new state folder.*topics\.json"):
        topics.agree(folder, {"events": "A", "labels": "D", "predictions": "B"}, where="state")
    assert json.loads((tmp_path / topics.FILE).read_text()) == {"events": "A", "labels": "C", "predictions": "B"}


def test_a_topic_that_takes_less_than_the_producer_sends_is_named_with_the_setting() -> None:
    assert topics.too_narrow({"p": 1_048_588, "r": 1_048_588}, 1_045_000) == ""
    words = topics.too_narrow({"p": 1_048_588, "r": 500_000, "s": 400_000}, 1_045_000)
    assert "r (500000), s (400000)" in words
    assert "max.request.size: 400000" in words


@pytest.mark.parametrize(("features", "words"), [(1 << 18, None), (100_000, "rejected as too_large"), (1000, "")])
def test_features_that_fit_into_no_prediction_are_refused_at_the_start(features: int, words: str | None) -> None:
    kafka = Kafka(bootstrap_servers="x")
    if words is None:
        with pytest.raises(ConfigError, match=r"c\.yaml: learners: the model makes 262144 features, .*max\.request\.size"):
            topics.features_fit(features, kafka, source="c.yaml")
    else:
        said = topics.features_fit(features, kafka, source="c.yaml")
        assert bool(said) == bool(words)
        assert words in said
    wide = Kafka.model_validate({"bootstrap_servers": "x", "options": {"max.request.size": "20000000"}})
    assert topics.features_fit(features, wide, source="c.yaml") == ""


def test_partitions_that_are_added_take_no_slots_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=8, master="local[8]"))
    config: Any = SimpleNamespace(events=SimpleNamespace(topic="events"))
    ready = preflight.Ready(spark, config, ("score", "store"), "c.yaml", partitions={"events": 2}, mode="realtime")
    for now in ({}, {"events": 2}, {"events": 1}, {"predictions": 50}):
        service.keep_up(ready, now)
    assert not caplog.messages
    service.keep_up(ready, {"events": 4})
    service.keep_up(ready, {"events": 4})
    assert caplog.messages == ["topic=events partitions=4 were=2: 8 task slots, 8 needed"]
    with pytest.raises(EnvironmentFailure, match="5 partitions of events"):
        service.keep_up(ready, {"events": 5})
    ready.mode = "microbatch"
    service.keep_up(ready, {"events": 50})


def test_runs_of_offsets_that_are_read_together() -> None:
    assert read.runs([]) == []
    assert read.runs([5]) == [(5, 5)]
    assert read.runs([1, 2, 9_000, 30_000, 30_001]) == [(1, 9_000), (30_000, 30_001)]
