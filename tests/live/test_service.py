"""The whole job on a real broker: every event answered, the store a function of the topic, whatever is killed."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from streaming import config as cfg
from streaming.errors import TransientError
from streaming.job import service
from streaming.learning import versions
from tests.support import events
from tests.support.inside import Inside, InsideJob
from tests.support.job import Job, Outcome, outcome, read_all, send, wait_until, write_config
from tests.support.usual import usual

pytestmark = pytest.mark.timeout(900)


def answered(tree: dict[str, Any], n: int) -> Callable[[], bool]:
    """True once `n` events stand on the output topics."""

    def done() -> bool:
        written = outcome(tree["kafka"]["bootstrap_servers"], tree)
        return len(written.predictions) + len(written.rejected) >= n

    return done


def stored(tree: dict[str, Any]) -> dict[str, str]:
    """key -> event_id in the SQLite store."""
    connection = sqlite3.connect(tree["store"]["path"])
    try:
        return dict(connection.execute("SELECT key, event_id FROM predictions").fetchall())
    finally:
        connection.close()


def check_balance(tree: dict[str, Any], sent: list[tuple[bytes | None, bytes | None]]) -> Outcome:
    """No event is lost, none is both predicted and rejected, repeats agree, and the store is what the topic says."""
    written = outcome(tree["kafka"]["bootstrap_servers"], tree)
    assert not set(written.predictions) & set(written.rejected)
    assert len(written.predictions) + len(written.rejected) == len(sent)
    for event_id, scored in written.predictions.items():
        assert len({json.dumps(prediction, sort_keys=True) for prediction, _ in scored}) == 1, event_id
    wait_until(lambda: stored(tree) == written.newest(), "the store agrees with the topic")
    return written


def test_every_event_is_answered_and_every_broken_one_says_why(tree: dict[str, Any], inside: Inside) -> None:
    with inside(tree) as job:
        answers_everything(tree, job)
        job.until(lambda: "lane=score" in job.text(), "the score lane reports a batch")
        with pytest.raises(TransientError, match=r"another process runs the lane \w+ on this state folder"):
            service.serve(cfg.parse(tree))  # a second job, started by mistake or before this one has ended
        answers_on(tree, job)
        job.stop()
    assert "Traceback" not in job.text()
    assert "lane=store" in job.text()


def answers_on(tree: dict[str, Any], job: InsideJob) -> None:
    """The job answers what comes now, once."""
    servers = tree["kafka"]["bootstrap_servers"]
    before = len(outcome(servers, tree).predictions)
    send(servers, tree["events"]["topic"], [events.good(i) for i in range(1_000, 1_020)])
    job.until(lambda: len(outcome(servers, tree).predictions) == before + 20, "new events are answered")
    assert all(len(times) == 1 for times in outcome(servers, tree).predictions.values())


def test_real_time_answers_the_same_and_what_it_learned_long_before_its_next_boundary(learning: dict[str, Any], inside: Inside) -> None:
    """The trigger is so long that only the memory of the JVM can have brought the new version."""
    servers = learning["kafka"]["bootstrap_servers"]
    learning["score"] = {"mode": "realtime", "trigger": "1 hour"}
    with inside(learning) as job:
        answers_everything(learning, job)
        send(servers, learning["labels"]["topic"], [events.label(i) for i in range(200)])
        job.until(lambda: learned(learning) == 200, "all labels learned")
        sent = iter(range(200, 10_000))

        def served() -> bool:
            send(servers, learning["events"]["topic"], [events.good(next(sent))])
            shown = read_all(servers, learning["predictions"]["shadow_topic"])
            return any("model_version" in json.loads(record.value) for record in shown)

        job.until(served, "a learned version is served")
        assert "lane=score" not in job.text()  # its first batch still goes on
        job.stop()
    assert "Traceback" not in job.text()
    assert "lane=store" in job.text()


def learned(tree: dict[str, Any]) -> int:
    """How many labels the learner has learned."""
    learner = versions.learner(cfg.parse(tree), "online", lambda: pytest.fail("local state needs no Spark"))
    return sum(meta.learned for meta in versions.history(learner))


def send_traced(servers: str, topic: str) -> list[tuple[str, bytes]]:
    """One event that belongs to a trace; returns the headers that its prediction must have."""
    trace = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", b"congo=t61rcWkgMzE")]
    producer = KafkaProducer(bootstrap_servers=servers)
    try:
        _, value = events.good(7)
        producer.send(topic, value=value.replace(b'"c7"', b'"traced"'), headers=[("other", b"stays behind"), *trace])
        producer.flush()
    finally:
        producer.close()
    return trace


def answers_everything(tree: dict[str, Any], job: Job | InsideJob) -> None:
    """Good events and every kind of broken ones, and a prediction that is none: each has its answer on the right topic."""
    servers = tree["kafka"]["bootstrap_servers"]
    sent = [events.good(i) for i in range(200)] + [(b"broken", value) for value, _ in events.BROKEN]
    send(servers, tree["events"]["topic"], sent)
    traced = send_traced(servers, tree["events"]["topic"])
    sent.append((b"traced", b"{}"))
    job.until(answered(tree, len(sent)), "all events answered")
    answers = check_balance(tree, sent)
    headers = {record.key: record.headers for record in read_all(servers, tree["predictions"]["topic"])}
    assert headers.pop(b"traced") == traced
    assert set(map(len, headers.values())) == {0}
    send(servers, tree["predictions"]["topic"], [(b"k", b"rubbish")])
    job.until(lambda: any(h[0]["lane"] == "store" for h in outcome(servers, tree).rejected.values()), "the store lane rejects rubbish")
    assert Counter(h[0]["reason"] for h in answers.rejected.values()) == Counter(reason for _, reason in events.BROKEN)
    assert all(h[0]["error"] for h in answers.rejected.values())
    prediction = answers.predictions[sorted(answers.predictions)[0]][0][0]
    assert prediction["model"] == "churn"
    assert prediction["model_version"] == "3"
    assert len(prediction["probability"]) == 2


def killed_at_random(tree: dict[str, Any], config: Path, *, n: int, per_s: float, kills: int, seed: int, labels: int = 0) -> None:
    """Kill the job so many times while events come in, then let it finish and learn so many labels, and check the balance."""
    sent = events.mixed(n)
    chance = random.Random(seed)
    producing = threading.Thread(
        target=send, args=(tree["kafka"]["bootstrap_servers"], tree["events"]["topic"], sent), kwargs={"per_s": per_s}
    )
    producing.start()
    job = Job(config)
    try:
        for _ in range(kills):
            job.start().wait_started()
            time.sleep(chance.uniform(0.0, 8.0))
            job.kill()
        job.start().wait_started()
        producing.join()
        try:
            job.until(answered(tree, n), "all events answered after the kills")
        except AssertionError as late:
            written = outcome(tree["kafka"]["bootstrap_servers"], tree)
            raise AssertionError(f"{len(written.predictions)} predicted, {len(written.rejected)} rejected of {n}: {late}") from late
        job.until(lambda: not labels or learned(tree) >= labels, "all labels learned after the kills")
        written = check_balance(tree, sent)
        job.until(lambda: "lane=score" in job.text(), "the score lane reports a batch")
        assert job.stop() == 0
    finally:
        job.kill()
        producing.join()
    assert len(written.rejected) == sum(key == b"broken" for key, _ in sent)


@pytest.mark.parametrize("mode", usual(["microbatch", "realtime"], {"realtime"}))
def test_a_killed_job_loses_nothing_and_learns_each_label_once(learning: dict[str, Any], tmp_path: Path, mode: str) -> None:
    learning["score"] = {"mode": mode} | ({"trigger": "5 seconds"} if mode == "realtime" else {})
    labels = [events.label(i) for i in range(0, 3_000, 5) if (i + 1) % 97]  # not of the broken ones
    send(learning["kafka"]["bootstrap_servers"], learning["labels"]["topic"], labels)
    config = write_config(tmp_path / "job.yaml", learning)
    killed_at_random(learning, config, n=3_000, per_s=100, kills=2, seed=1, labels=len(labels))
    assert learned(learning) == len(labels)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", ["microbatch", "realtime"])
def test_ten_kills_over_fifty_thousand_events(tree: dict[str, Any], tmp_path: Path, mode: str) -> None:
    tree["score"] = {"mode": mode} | ({"trigger": "5 seconds"} if mode == "realtime" else {})
    killed_at_random(tree, write_config(tmp_path / "job.yaml", tree), n=50_000, per_s=400, kills=10, seed=2)


@pytest.mark.campaign
@pytest.mark.parametrize("mode", ["microbatch", "realtime"])
def test_the_broker_goes_away_for_twenty_seconds(tree: dict[str, Any], tmp_path: Path, mode: str) -> None:
    """The job sits it out, or leaves with "try again" and goes on when it is started again; nothing is lost."""
    from kafka import KafkaAdminClient

    from streaming.embedded.broker import EmbeddedBroker

    tree["score"] = {"mode": mode} | ({"trigger": "5 seconds"} if mode == "realtime" else {})
    own = EmbeddedBroker(tmp_path / "kafka")
    own.start()
    job = Job(write_config(tmp_path / "job.yaml", tree | {"kafka": {"bootstrap_servers": own.bootstrap_servers}}))
    tree["kafka"] = {"bootstrap_servers": own.bootstrap_servers}
    try:
        admin = KafkaAdminClient(bootstrap_servers=own.bootstrap_servers)
        for topic in (tree["events"]["topic"], tree["predictions"]["topic"], tree["predictions"]["rejected_topic"]):
            admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
        admin.close()
        sent = events.mixed(2_000)
        send(own.bootstrap_servers, tree["events"]["topic"], sent[:1_000])
        job.start().wait_started()
        job.until(lambda: len(outcome(own.bootstrap_servers, tree).predictions) > 100, "the job is at work")
        own.kill()
        time.sleep(20)
        own.start()
        send(own.bootstrap_servers, tree["events"]["topic"], sent[1_000:])
        job.supervised_until(answered(tree, len(sent)), "all events answered")
        check_balance(tree, sent)
        assert job.stop() == 0
    finally:
        job.kill()
        own.stop()
