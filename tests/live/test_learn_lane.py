"""The LEARN lane on a real broker: every label learned once, whatever becomes of it has a name, and what people ask is done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streaming import config as cfg
from streaming.learning import versions
from streaming.learning.state_log import Snapshot
from streaming.proof import replay
from tests.support import events
from tests.support.events import label
from tests.support.inside import Inside
from tests.support.job import Job, outcome, read_all, send, write_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(900)

N = 600


def newest(tree: dict[str, Any]) -> Snapshot | None:
    config = cfg.parse(tree)
    return versions.learner(config, "online", lambda: pytest.fail("local state needs no Spark")).log.newest()


def total(tree: dict[str, Any]) -> int:
    snapshot = newest(tree)
    return snapshot.meta.total if snapshot is not None else 0


def answers(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(r.value) for r in read_all(tree["kafka"]["bootstrap_servers"], tree["predictions"]["shadow_topic"])]


def test_every_fate_of_a_label(learning: dict[str, Any], inside: Inside, spark: SparkSession) -> None:
    servers, topic = learning["kafka"]["bootstrap_servers"], learning["labels"]["topic"]
    early = [label(i) for i in range(50)]
    send(servers, topic, early)  # before their predictions
    send(servers, learning["events"]["topic"], [events.good(i) for i in range(N)])
    send(servers, topic, [label(i) for i in range(50, N - 100)])  # the last 100 events never get a label
    send(servers, topic, [label(7), label(8, 1.0 - float(8 % 100 > 50))])  # once more: the same, and corrected
    stranger = b'{"id": "nobody", "at": "2026-01-01T00:00:00.000Z", "label": 1}'
    bad = [(b"x", b"{oops"), label(500, "yes"), label(501, None), label(502, 3.0), (b"nobody", stranger)]
    bad[2] = (bad[2][0], bad[2][1].replace(b'"label": 1.0', b'"label": null').replace(b'"label": 0.0', b'"label": null'))
    # One event of 2099 with its label would make every other label too late, for ever.
    ahead = {"id": "c1", "at": "2099-01-01T00:00:00.000Z"}
    send(servers, learning["events"]["topic"], [(b"c1", json.dumps(json.loads(events.good(1)[1]) | ahead).encode())])
    bad.append((b"c1", json.dumps(ahead | {"label": 1.0}).encode()))
    send(servers, topic, bad)
    with inside(learning) as job:
        job.until(lambda: total(learning) >= N - 100, "all good labels learned")
        # A later event and its label move the watermark on, so that the stranger's time is over.
        for step in range(2):
            key, event = events.good(step)
            later = (events.START + timedelta(hours=2 + step)).isoformat(timespec="milliseconds")
            moved = json.dumps(json.loads(event) | {"at": later}).encode()
            send(servers, learning["events"]["topic"], [(key, moved)])
            send(servers, topic, [(key, json.dumps({"id": key.decode(), "at": later, "label": 1.0}).encode())])
            job.until(lambda done=step: total(learning) >= N - 100 + done + 1, "the later label learned")

        def reasons() -> Counter[str]:
            rejected = outcome(servers, learning).rejected.values()
            return Counter(h["reason"] for headers in rejected for h in headers[:1] if h["lane"] == "learn")

        job.until(lambda: reasons()["no_prediction"] == 1, "the stranger is rejected")
        send(servers, topic, [label(N - 50)])
        job.until(lambda: reasons()["late_label"] == 1, "a label that comes hours too late is rejected")
        assert reasons() == {
            "malformed_json": 1,
            "wrong_type": 1,
            "invalid_label": 2,
            "no_prediction": 1,
            "future_time": 1,
            "late_label": 1,
        }
        assert total(learning) == N - 100 + 2
        send(servers, learning["events"]["topic"], [events.good(i) for i in range(N, N + 20)])
        job.until(lambda: any(a.get("model_version") for a in answers(learning)), "a learned version is served")
        check_history(learning, spark)
        job.stop()
    served = answers(learning)
    cold = [a for a in served if "model_version" not in a]
    assert cold
    assert all("prediction" not in a and a["features"] for a in cold)  # null, not zero
    assert "Traceback" not in job.text()


def check_history(tree: dict[str, Any], spark: SparkSession) -> None:
    """Versions are listed, a replay from the topics proves them, an export answers as the learner does."""
    from pyspark.ml.classification import LogisticRegressionModel
    from pyspark.ml.linalg import Vectors

    from streaming.models.spark import learned as weights

    config = cfg.parse(tree)
    learner = versions.learner(config, "online", lambda: spark)
    kept = [meta for meta in versions.history(learner) if meta.learned]
    assert sum(meta.learned for meta in kept) == kept[-1].total
    if len(kept) > 1:
        proof = replay.replay(config, "online", first=str(kept[0].version), last=str(kept[-1].version), spark=spark)
        assert proof.equal
        assert proof.labels == sum(meta.learned for meta in kept[1:])
    version, numbers = versions.weights_of(learner, None)
    model = weights.to_stage(spark, numbers, uid=f"online-{version}")
    assert isinstance(model, LogisticRegressionModel)
    x = np.linspace(-1.0, 1.0, numbers.features)
    assert model.predictProbability(Vectors.dense(x.tolist()))[1] == pytest.approx(numbers.predict(x[None, :]).probability[0, 1], abs=1e-12)


def test_a_rollback_is_in_force_at_once_and_learning_goes_on_from_there(learning: dict[str, Any], inside: Inside) -> None:
    servers = learning["kafka"]["bootstrap_servers"]
    with inside(learning) as job:
        for part in range(3):
            numbers = range(part * 100, part * 100 + 100)
            send(servers, learning["events"]["topic"], [events.good(i) for i in numbers])
            send(servers, learning["labels"]["topic"], [label(i) for i in numbers])
            job.until(lambda done=part: total(learning) >= done * 100 + 100, "labels learned")
        config = cfg.parse(learning)
        learner = versions.learner(config, "online", lambda: pytest.fail("no Spark"))
        first = next(meta for meta in versions.history(learner) if meta.learned)
        versions.rollback(config, "online", to=str(first.version), spark=lambda: pytest.fail("no Spark"))
        send(servers, learning["events"]["topic"], [events.good(i) for i in range(300, 310)])

        def served() -> set[str | None]:
            return {a.get("model_version") for a in answers(learning) if int(a["event_time"][20:23]) >= 300}

        job.until(lambda: served() == {first.version}, "the old version is served")
        send(servers, learning["labels"]["topic"], [label(i) for i in range(300, 310)])
        job.until(
            lambda: newest(learning).meta.base == first.batch or newest(learning).meta.command is not None, "the command is carried out"
        )
        job.until(lambda: newest(learning).meta.total == first.total + 10, "learning goes on from the old version")
        job.stop()


@pytest.mark.campaign
def test_a_learner_that_becomes_champion_goes_on_with_what_it_knows(learning: dict[str, Any], tmp_path: Path) -> None:
    """Its answers move from the shadow topic to the predictions topic, and the lane that learns reads both."""
    servers = learning["kafka"]["bootstrap_servers"]
    learning["learners"][0]["warm_start"] = "model"
    for part, role in enumerate(("shadow", "champion", "champion", "shadow")):
        learning["learners"][0]["role"] = role
        numbers = range(part * 100, part * 100 + 100)
        job = Job(write_config(tmp_path / "job.yaml", learning)).start()
        try:
            job.wait_started()
            send(servers, learning["events"]["topic"], [events.good(i) for i in numbers])
            send(servers, learning["labels"]["topic"], [label(i) for i in numbers])
            job.until(lambda done=part: total(learning) >= done * 100 + 100, f"labels learned as {role}")
            assert job.stop() == 0
        finally:
            job.kill()
    assert total(learning) == 400
    assert "state=waiting" not in job.text()


@pytest.mark.campaign
def test_a_deleted_checkpoint_is_refused_and_what_was_learned_is_taken_along(learning: dict[str, Any], tmp_path: Path) -> None:
    servers = learning["kafka"]["bootstrap_servers"]
    config = write_config(tmp_path / "job.yaml", learning)
    for part in range(2):
        numbers = range(part * 100, part * 100 + 100)
        job = Job(config).start()
        try:
            job.wait_started()
            send(servers, learning["events"]["topic"], [events.good(i) for i in numbers])
            send(servers, learning["labels"]["topic"], [label(i) for i in numbers])
            job.until(lambda done=part: total(learning) >= done * 100 + 100, "labels learned")
            assert job.stop() == 0
        finally:
            job.kill()
        if part == 0:
            shutil.rmtree(Path(learning["state"]) / "checkpoints" / "learn")
            refused = Job(config).start()
            assert refused.wait_exit() == 2
            assert "streaming learner migrate" in refused.text()
            done = subprocess.run(
                [sys.executable, "-m", "streaming", "learner", "migrate", str(config), "online"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    time.sleep(3)
    assert total(learning) == 200  # none twice, though the labels of before still stand on their topic
