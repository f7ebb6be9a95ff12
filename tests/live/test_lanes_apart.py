"""Each lane by itself, on a real broker: a database that is away and a learner that fails leave scoring as it is."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streaming import config as cfg
from streaming.job import preflight, start
from streaming.job.supervise import Supervisor
from streaming.learning.publish import Publisher
from streaming.runtime import files
from tests.support import events
from tests.support.inside import Inside, InsideJob
from tests.support.job import Job, outcome, running, send, wait_until, write_config
from tests.support.usual import usual

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(900)


def asked(job: Job | InsideJob, path: str) -> tuple[int, str]:
    """What the port of the job answers."""
    port = re.findall(r"health=http://127\.0\.0\.1:(\d+)/", job.text())[-1]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def lanes(job: Job | InsideJob) -> dict[str, Any]:
    return json.loads(asked(job, "/readyz")[1])["lanes"]


def lost_by(tree: dict[str, Any]) -> Callable[[int], int]:
    def missing(n: int) -> int:
        seen = outcome(tree["kafka"]["bootstrap_servers"], tree)
        return n - len(seen.predictions) - len(seen.rejected)

    return missing


def committed(servers: str, group: str, topic: str) -> int:
    """How many records of the topic a group has read, as Kafka's own tools show it."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        read = admin.list_group_offsets({group: None})[group]
    finally:
        admin.close()
    return sum(at.offset for place, at in read.items() if place.topic == topic)


@pytest.mark.parametrize("away_s", usual([4, 120], [4]))
def test_a_database_that_is_away_holds_up_nobody_else(tree: dict[str, Any], inside: Inside, postgres: Any, away_s: int) -> None:
    """It is away when the job starts, comes, is restarted under load, and goes away under load: predictions flow, the store
    catches up, nothing is lost."""
    psycopg = pytest.importorskip("psycopg")
    tree["store"] = {"kind": "postgres", "dsn": postgres.dsn, "table": f"away_{away_s}"}
    servers, missing = tree["kafka"]["bootstrap_servers"], lost_by(tree)

    def agrees() -> bool:
        with psycopg.connect(postgres.dsn) as connection:
            return dict(connection.execute(f"SELECT key, event_id FROM away_{away_s}").fetchall()) == outcome(servers, tree).newest()

    postgres.stop()
    try:
        with inside(tree) as job:
            send(servers, tree["events"]["topic"], [events.good(i) for i in range(100)])
            job.until(lambda: missing(100) == 0, "scored without the database")
            status, body = asked(job, "/readyz")
            assert (status, json.loads(body)["status"]) == (200, "degraded")
            store = lanes(job)["store"]
            assert store["error"] == "StoreUnavailable"
            assert "no connection" in store["why"]
            assert "secret" not in body
            postgres.start()
            job.until(lambda: lanes(job)["store"]["state"] == "running", "the store lane is up")
            job.until(agrees, "the store agrees")

            n = 100 + 100 * (away_s + 6)
            load = threading.Thread(
                target=send, args=(servers, tree["events"]["topic"], [events.good(i) for i in range(100, n)]), kwargs={"per_s": 100}
            )
            load.start()
            time.sleep(2)
            postgres.restart()
            time.sleep(2)
            postgres.stop()
            gone = time.monotonic()
            while time.monotonic() < gone + away_s:
                job.until(lambda: True, "the job lives")
                time.sleep(0.2)
            assert lanes(job)["store"]["state"] != "running" or away_s < 10
            postgres.start()
            load.join()
            job.until(lambda: missing(n) == 0, "all events answered")
            job.until(agrees, "the store caught up")
            assert lanes(job)["store"]["restarts"] >= 2
            assert lanes(job)["score"] == lanes(job)["score"] | {"state": "running", "restarts": 0}
            counted = re.findall(
                r'^streaming_lane_(?:records|restarts)_total\{lane="score"\} (\S+)$', asked(job, "/metrics")[1], re.MULTILINE
            )
            assert sorted(map(float, counted)) == [0.0, float(n)]
            job.stop()
        predictions = sum(map(len, outcome(servers, tree).predictions.values()))
        assert committed(servers, "live-score", tree["events"]["topic"]) == n
        assert committed(servers, "live-store", tree["predictions"]["topic"]) == predictions
        assert job.text().count("started name=") == 1
        assert "Traceback" not in job.text()
    finally:
        if postgres._process is None:
            postgres.start()


class Failing(Publisher):
    """What a learner with a bug does to its lane: every batch dies of it."""

    def publish(self, snapshots: Any) -> None:
        raise ZeroDivisionError("a bug in a learner")


def test_a_learner_that_fails_at_every_batch_leaves_scoring_alone(
    tree: dict[str, Any], topics: Callable[..., str], spark: SparkSession
) -> None:
    tree["predictions"]["shadow_topic"] = topics(2)
    tree["labels"] = {"topic": topics(1), "key": "id", "time": "at"}
    tree["learners"] = [{"name": "online", "algorithm": "logistic_regression", "warm_start": "model"}]
    config, servers = cfg.parse(tree), tree["kafka"]["bootstrap_servers"]
    ready = preflight.demand(spark, config, lanes=("score", "learn"), source="job.yaml")
    publisher = Failing(ready.learning, files.folder(config.state, lambda: spark), config.events.topic)
    publisher.start()
    built = start.lanes_of(ready, config, ("score", "learn"), publisher, on_learned=lambda learned: None)
    supervisor = Supervisor(built, on_failure="continue", is_alive=lambda: True)
    supervisor.start()
    try:
        missing = lost_by(tree)
        for i in range(3):
            send(servers, tree["events"]["topic"], [events.good(n) for n in range(i * 50, i * 50 + 50)])
            wait_until(lambda n=i * 50 + 50: supervisor.look() and missing(n) == 0, "scored")
            wait_until(lambda n=i: {s.lane: s for s in supervisor.look()}["learn"].restarts >= n + 1, "the learn lane was tried again")
        score, learn = sorted(supervisor.statuses, key=lambda each: each.lane, reverse=True)
        assert (score.state, score.restarts) == ("running", 0)
        assert learn.error == "LaneDied"
    finally:
        supervisor.settle()
        for lane in supervisor.lanes:
            if lane.query is not None:
                lane.query.stop()


@pytest.mark.campaign
def test_a_stop_at_a_boundary_of_real_time_mode_scores_nothing_twice(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["score"] = {"mode": "realtime", "trigger": "5 seconds"}
    tree["job"] = {"stop_within": "10 seconds", "port": 0}
    servers, n = tree["kafka"]["bootstrap_servers"], 8_000
    config = write_config(tmp_path / "job.yaml", tree)
    load = threading.Thread(target=send, args=(servers, tree["events"]["topic"], [events.good(i) for i in range(n)]), kwargs={"per_s": 100})
    missing = lost_by(tree)
    with running(config) as job:
        job.wait_started()
        load.start()
        for _ in range(2):
            time.sleep(12)
            assert job.stop() == 0
            job.start().wait_started()
        load.join()
        job.until(lambda: missing(n) == 0, "all events answered")
        assert job.stop() == 0
    scored = outcome(servers, tree).predictions.values()
    assert sum(len(times) - 1 for times in scored) == 0
