"""An answer that was given can be found, explained and given again; whatever is no longer the same is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from streaming import config as cfg
from streaming.cli import explain as command
from streaming.errors import ConfigError, StateError
from streaming.kafka import admin, read, write
from streaming.lanes import score
from streaming.learning import weights_file
from streaming.learning.publish import Publisher
from streaming.learning.state_log import Meta, Snapshot
from streaming.learning.teach import open_learners
from streaming.models import manifest
from streaming.models.spark import pipeline
from streaming.online.base import to_arrays
from streaming.online.weights import Weights
from streaming.proof.lineage import explain
from streaming.proof.lineage import topics as traces
from streaming.records.schema import event_schema
from streaming.runtime import files
from tests.support import events
from tests.support.job import send

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.timeout(600)

#: A prediction, and two ways to be rejected: by the decoder, and by the model.
SENT = [events.good(1), (b"broken", events.BROKEN[0][0]), (b"x", events.BROKEN[6][0])]

WEIGHTS = Weights("logistic", np.array([0.3, -0.2, 0.01, 0.05]), np.array(0.1))


def run_lane(config: cfg.Config, spark: SparkSession, *, state: Path) -> None:
    """The SCORE lane over all that stands on the topic, once."""
    schema = event_schema(spark, config.events)
    model: Any = pipeline.load(config.model, spark)
    weights = weights_file.frame(spark, f"{config.state}/{weights_file.FILE}") if config.learners else None
    records = read.stream(spark, config.kafka, config.events.topic)
    writer = write.stream(score.score(records, config, schema, model, weights=weights), config.kafka)
    writer = writer.option("checkpointLocation", str(state)).outputMode("update")
    writer.trigger(availableNow=True).start().awaitTermination()


def ids(config: cfg.Config, spark: SparkSession) -> dict[bytes, str]:
    """The event_id of each record by its value."""
    rows = read.whole(spark, config.kafka, config.events.topic).select("value", "partition", "offset").collect()
    return {bytes(r[0]): f"{config.events.topic}:{r[1]}:{r[2]}" for r in rows}


@pytest.fixture
def scored(tree: dict[str, Any], topics: Callable[..., str], spark: SparkSession, tmp_path: Path) -> cfg.Config:
    """A configuration with a learner of one learned version, whose events were scored twice, as after a crash."""
    tree["predictions"]["shadow_topic"] = topics(1)
    tree["labels"] = {"topic": topics(1), "key": "id", "time": "at", "label": "label"}
    tree["learners"] = [{"name": "online", "algorithm": "logistic_regression"}]
    config = cfg.parse(tree)
    state = files.folder(config.state, lambda: spark)
    (learning,) = open_learners(config, state)
    learning.log.begin(0, learning.start)
    learning.log.add(
        0, Snapshot(Meta(0, "0", learned=5, total=5, at="2026-01-01T00:00:00.000+00:00"), to_arrays(learning.learner.warm(WEIGHTS)))
    )
    Publisher([learning], state, config.events.topic).start()
    send(config.kafka.bootstrap_servers, config.events.topic, SENT)
    for attempt in ("first", "second"):
        run_lane(config, spark, state=tmp_path / attempt)
    return config


def test_answers_are_explained_and_given_again(scored: cfg.Config, spark: SparkSession, saved_pipeline: Path, tmp_path: Path) -> None:
    places = ids(scored, spark)
    good, malformed, unfit = (places[value] for _, value in SENT if value is not None)

    explained = explain.explain(scored, good, spark)
    by_model = {each.then.model: each for each in explained.answers}
    assert explained.reproduced, explained
    assert set(by_model) == {"churn", "online"}
    assert by_model["churn"].then.times == 2
    assert by_model["churn"].difference == 0.0
    assert by_model["churn"].now is not None
    assert by_model["churn"].now.probability == by_model["churn"].then.probability
    assert by_model["online"].then.model_version == "0"
    assert by_model["online"].then.features is not None
    assert json.loads(explained.event)["id"] == "c1"
    assert explained.model.sha256 == manifest.fingerprint(spark, str(saved_pipeline))
    assert "nobody recorded" in explained.model.words
    assert json.loads(json.dumps(explained.tree(), default=str))["reproduced"] is True

    for event_id, reason in ((malformed, "malformed_json"), (unfit, "pipeline_failure")):
        refused = explain.explain(scored, event_id, spark)
        assert refused.reproduced, refused
        (only,) = refused.answers
        assert only.then.reason == reason
        assert only.words == "rejected again, for the same reason"

    # Another version is configured: the numbers agree, but nobody may call that reproduced. And learned weights that are
    # not those that answered are found out.
    log = files.folder(scored.state, lambda: spark).below("learners").below("online")
    name = "0000000000.npz"
    kept = Snapshot.from_bytes(log.read(name) or b"")
    (learning,) = open_learners(scored, files.folder(scored.state, lambda: spark))
    bend = replace(WEIGHTS, coefficients=WEIGHTS.coefficients + 0.01)
    log.replace(name, replace(kept, state=to_arrays(learning.learner.warm(bend))).to_bytes())
    newer = scored.model_copy(update={"model": scored.model.model_copy(update={"version": "4"})})
    other = {each.then.model: each for each in explain.explain(newer, good, spark).answers}
    assert not other["churn"].reproduced
    assert "answered by version 3, configured is 4" in other["churn"].words
    assert other["churn"].difference == 0.0
    assert not other["online"].reproduced
    assert other["online"].difference is not None
    assert other["online"].difference > 1e-3

    # The files are not those that were pinned: the model is not opened, and everything else is shown. So it is when the
    # learner's version is gone.
    log.delete(name)
    pinned = scored.model_copy(update={"model": scored.model.model_copy(update={"sha256": "0" * 64})})
    changed = explain.explain(pinned, good, spark)
    assert not changed.reproduced
    assert not changed.model.matches
    assert any("tampered" in problem for problem in changed.problems)
    gone = next(each for each in changed.answers if each.then.model == "online")
    assert not gone.reproduced
    assert "no version '0' is kept" in gone.words

    # Two answers of one version that differ.
    shown = next(each.then for each in explained.answers if each.then.model == "churn")
    forged = {
        "event_id": good,
        "model": "churn",
        "model_version": "3",
        "prediction": 0.5,
        "probability": shown.probability,
        "key": shown.key,
    }
    send(scored.kafka.bootstrap_servers, scored.predictions.topic, [(b"c1", json.dumps(forged).encode())])
    with pytest.raises(StateError, match="churn version 3 gave two answers that differ"):
        explain.explain(scored, good, spark)


def test_events_that_are_not_there(tree: dict[str, Any], spark: SparkSession) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    config = cfg.parse(tree)
    servers, topic = config.kafka.bootstrap_servers, config.events.topic
    send(servers, topic, [events.good(i) for i in range(40)])
    place = next(p for p, end in admin.offsets(spark, config.kafka, topic, "latest").items() if end > 2)
    unanswered = explain.explain(config, f"{topic}:{place}:1", spark)
    assert not unanswered.reproduced
    assert any("no answer was found" in problem for problem in unanswered.problems)
    for wrong, words in (("rubbish", "expected topic:partition:offset"), (f"other:{place}:1", "the topic is other")):
        with pytest.raises(ConfigError, match=words):
            explain.explain(config, wrong, spark)
    for wrong, words in ((f"{topic}:{place}:99", "not there yet"), (f"{topic}:9:0", "no partition 9")):
        with pytest.raises(StateError, match=words):
            explain.explain(config, wrong, spark)
    client = KafkaAdminClient(bootstrap_servers=servers)
    try:
        client.delete_records({TopicPartition(topic, place): 2})
    finally:
        client.close()
    with pytest.raises(StateError, match=r"the broker has deleted it .*the oldest it still has is offset 2"):
        explain.explain(config, f"{topic}:{place}:1", spark)


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tree: dict[str, Any]) -> None:
    from contextlib import nullcontext

    from streaming.models.provenance import Provenance
    from streaming.runtime import session
    from tests.support.job import write_config

    then = traces.GivenAnswer("churn", "3", 1.0, [0.25, 0.75], key="c1", times=2)
    about = Provenance("churn", "3", "models/3", "ab", "ab", None, {"seed": 42}, "the files are those that were recorded")
    same = explain.Compared(then, replace(then, times=1), 0.0, "equal, bit for bit")
    explained = explain.Explanation(
        "t:0:1", datetime(2026, 1, 1, tzinfo=UTC).isoformat(), '{"id": "c1"}', [same], [], "holds nothing", about
    )
    monkeypatch.setattr(session, "running", lambda _: nullcontext())
    monkeypatch.setattr(explain, "explain", lambda *_: explained)
    file = str(write_config(tmp_path / "job.yaml", tree))
    shown = CliRunner().invoke(command.explain_prediction, [file, "t:0:1"])
    assert shown.exit_code == 0
    for words in ("0.75", "(2 times)", "seed: 42", "equal, bit for bit", "✓ reproduced"):
        assert words in shown.output
    explained = replace(explained, problems=["the files were changed"])
    again = CliRunner().invoke(command.explain_prediction, [file, "t:0:1", "--json"])
    assert again.exit_code == 2
    assert json.loads(again.output)["problems"] == ["the files were changed"]
