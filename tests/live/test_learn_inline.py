"""Events that carry their own label, and a learner that only Python can score."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streaming import config as cfg
from streaming.learning import versions
from streaming.online.river import RiverState
from tests.support import events
from tests.support.inside import Inside
from tests.support.job import read_all, send

pytestmark = pytest.mark.timeout(900)

N = 200


@pytest.fixture
def inline(tree: dict[str, Any], topics: Callable[..., str]) -> dict[str, Any]:
    tree["events"]["schema"] += ", label STRING"
    tree["predictions"]["shadow_topic"] = topics(2)
    tree["labels"] = {"field": "label", "max_delay": "10 minutes"}
    tree["learners"] = [
        {"name": "river", "algorithm": "river", "params": {"model": "linear_model.LogisticRegression"}, "window": 200},
        {"name": "online", "algorithm": "logistic_regression", "params": {"mini_batch": 1}, "window": 200},
    ]
    tree["learn"] = {"trigger": "500 ms"}
    return tree


def event(number: int, *, labelled: bool, label: object = None) -> tuple[bytes, bytes]:
    key, value = events.good(number)
    fields = json.loads(value) | ({"label": float(number % 100 > 50) if label is None else label} if labelled else {})
    return key, json.dumps(fields).encode()


def newest(tree: dict[str, Any], name: str) -> Any:
    learner = versions.learner(cfg.parse(tree), name, lambda: pytest.fail("local state needs no Spark"))
    return learner, learner.log.newest()


def rejected(tree: dict[str, Any]) -> list[Any]:
    return read_all(tree["kafka"]["bootstrap_servers"], tree["predictions"]["rejected_topic"])


def totals(tree: dict[str, Any]) -> set[int]:
    return {snapshot.meta.total if snapshot else 0 for _, snapshot in (newest(tree, name) for name in ("river", "online"))}


def test_inline_labels_and_a_river_model(inline: dict[str, Any], inside: Inside) -> None:
    servers, topic = inline["kafka"]["bootstrap_servers"], inline["events"]["topic"]
    send(servers, topic, [event(i, labelled=True) for i in range(N)])
    with inside(inline) as job:
        job.until(lambda: totals(inline) == {N}, "the first labels learned")
        send(servers, topic, [event(i, labelled=i % 2 == 0) for i in range(N, 2 * N)])
        job.until(lambda: totals(inline) == {N + N // 2}, "the labels among events without one learned, each once")
        # A label that is no number, and one that no learner takes: the event is scored, the label alone is rejected.
        bad = [event(2 * N + 20 + i, labelled=True, label=label) for i, label in enumerate(("n/a", "", "2", "NaN", "1e999"))]
        send(servers, topic, bad)
        job.until(lambda: len(rejected(inline)) == len(bad), "each bad label rejected")
        for record, (key, value) in zip(sorted(rejected(inline), key=lambda r: r.value), sorted(bad, key=lambda e: e[1]), strict=True):
            said = {name: text.decode() for name, text in record.headers}
            assert (record.key, record.value) == (key, value)
            assert (said["reason"], said["lane"], said["source_topic"]) == ("invalid_label", "learn", topic)
            assert said["source_timestamp"].startswith("20")
        assert totals(inline) == {N + N // 2}
        # What is asked now is answered by the state that is in force, to the last bit.
        send(servers, topic, [event(i, labelled=False) for i in range(2 * N, 2 * N + 10)])

        def asked() -> dict[str, list[dict[str, Any]]]:
            by_model: dict[str, list[dict[str, Any]]] = {"river": [], "online": []}
            for record in read_all(servers, inline["predictions"]["shadow_topic"]):
                answer = json.loads(record.value)
                if 2 * N <= _number(answer) < 2 * N + 10:
                    by_model[answer["model"]].append(answer)
            return by_model

        job.until(lambda: all(len(given) == 10 for given in asked().values()), "the last events answered by both")
        answers = asked()
        learner, snapshot = newest(inline, "river")
        state: RiverState = learner.state_of(snapshot)
        for answer in answers["river"]:
            assert answer["model_version"] == snapshot.meta.version
            expected = learner.learner.score(state, np.array([answer["features"]]))
            assert answer["prediction"] == expected.prediction[0]
            assert answer["probability"] == pytest.approx(expected.probability[0].tolist(), abs=1e-15)
        assert all(answer["prediction"] in (0.0, 1.0) for answer in answers["online"])
        job.stop()
    assert "Traceback" not in job.text()
    assert "mode=microbatch" in job.text()


def _number(answer: dict[str, Any]) -> int:
    """Which event an answer is about: its milliseconds since the start."""
    return int(answer["event_time"][20:23])
