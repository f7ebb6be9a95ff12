"""What an earlier version left behind goes on: its configuration, its learner's states, its checkpoints and its store.

The files in tests/data were written by the real job of that version (tests/support/keep_version.py says how). Its broker is
gone, so the topics are made anew with the same records at the same offsets: that is what the checkpoints speak of.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kafka import KafkaProducer

from streaming import config as cfg
from streaming.learning import versions
from streaming.learning.state_log import Meta
from tests.support import events
from tests.support.inside import Inside
from tests.support.job import outcome, read_all, send
from tests.support.keep_version import HERE, LABELLED, N, create_topics

if TYPE_CHECKING:
    from streaming.embedded.broker import Broker

pytestmark = pytest.mark.timeout(600)

KEPT = Path(__file__).parents[1] / "data" / "version-0.1.0-before-the-rooms.tar.xz"
MORE = 20


@pytest.fixture
def kept(broker: Broker, tmp_path: Path) -> dict[str, Any]:
    """The configuration of the version before, with all that belongs to it in place."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    text = (tmp_path / "job.yaml").read_text().replace(f"bootstrap_servers: '{HERE}'", f"bootstrap_servers: {broker.bootstrap_servers}")
    (tmp_path / "job.yaml").write_text(text.replace(HERE, str(tmp_path)))
    create_topics(broker.bootstrap_servers)
    restore(broker.bootstrap_servers, json.loads((tmp_path / "topics.json").read_text()))
    return dict(yaml.safe_load((tmp_path / "job.yaml").read_text()))


def restore(servers: str, topics: dict[str, list[dict[str, Any]]]) -> None:
    """Each record where it was."""

    def content(text: str | None) -> bytes | None:
        return None if text is None else base64.b64decode(text)

    producer = KafkaProducer(bootstrap_servers=servers)
    for topic, records in topics.items():
        for r in records:
            headers = [(name, content(value)) for name, value in r["headers"]]
            producer.send(topic, content(r["value"]), content(r["key"]), headers, r["partition"], r["timestamp"])
    producer.close()


def history(tree: dict[str, Any]) -> list[Meta]:
    return versions.history(versions.learner(cfg.parse(tree), "online", lambda: pytest.fail("local state needs no Spark")))


def stored(tree: dict[str, Any]) -> dict[str, str]:
    connection = sqlite3.connect(tree["store"]["path"])
    try:
        return dict(connection.execute("SELECT key, event_id FROM predictions WHERE model = 'churn'"))
    finally:
        connection.close()


def test_what_the_version_before_left_behind_goes_on(kept: dict[str, Any], inside: Inside) -> None:
    servers = kept["kafka"]["bootstrap_servers"]
    before = history(kept)
    assert before[-1].total == LABELLED
    assert stored(kept) == outcome(servers, kept).newest()
    send(servers, "kept-events", [events.good(i) for i in range(N, N + MORE)])
    send(servers, "kept-labels", [events.label(i) for i in range(LABELLED, N + MORE)])
    with inside(kept) as job:
        job.until(lambda: history(kept)[-1].total == N + MORE, "the labels that were missing and the new ones are learned")
        job.until(lambda: len(outcome(servers, kept).predictions) == N + MORE, "the new events are answered")
        job.until(lambda: stored(kept) == outcome(servers, kept).newest(), "the store takes the new rows beside the old")
        job.stop()
    assert history(kept)[: len(before)] == before  # the same versions, and new ones after them
    answers = outcome(servers, kept)
    assert all(len(scored) == 1 for scored in answers.predictions.values())  # the checkpoint was continued: nothing was scored again
    assert len(answers.rejected) == 1
    served = [json.loads(record.value) for record in read_all(servers, "kept-shadow")]
    went_on = [answer for answer in served if int(answer["event_time"][20:23]) >= N]
    assert len(went_on) == MORE
    assert all("model_version" in answer for answer in went_on)  # by learned weights from the first event on, not by a cold learner
