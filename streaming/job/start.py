"""The lanes of a job, built from its config and started."""

from __future__ import annotations

from collections.abc import Collection

from streaming.config.load import Config
from streaming.job import preflight
from streaming.job.stop import stop
from streaming.job.supervise import Lane
from streaming.kafka import read
from streaming.lanes import learn, score, store
from streaming.learning import labels, weights_file
from streaming.learning.publish import Publisher
from streaming.monitor import LANE


def start(ready: preflight.Ready, config: Config, lanes: Collection[str], publisher: Publisher | None) -> list[Lane]:
    """Start the lanes; when one cannot be started those that were are stopped again. `publisher`: present when there are learners."""
    running: list[Lane] = []
    if publisher is not None:
        publisher.start(scores=score.LANE in lanes, learns=learn.LANE in lanes)
    try:
        # The store first: it then sees the very first prediction without a backlog.
        if store.LANE in lanes:
            running.append(_store_lane(ready, config))
        if learn.LANE in lanes and publisher is not None:
            running.append(_learn_lane(ready, config, publisher))
        if score.LANE in lanes:
            running.append(_score_lane(ready, config))
        if ready.monitor is not None:
            running.append(_monitor_lane(ready, config))
    except BaseException:
        stop(running)
        raise
    return running


def _store_lane(ready: preflight.Ready, config: Config) -> Lane:
    assert ready.store is not None
    failed: list[BaseException] = []
    records = read.stream(ready.spark, config.kafka, config.predictions.topic, max_records=config.store.max_predictions_per_trigger)
    return Lane(store.LANE, store.start(records, config, ready.store, on_error=failed.append), config.predictions.topic, failed)


def _learn_lane(ready: preflight.Ready, config: Config, publisher: Publisher) -> Lane:
    assert config.labels is not None
    failed: list[BaseException] = []
    topics = {config.topic_of(learner.name) for learner in config.learners}
    limit = config.learn.max_records_per_trigger
    predictions = read.stream(ready.spark, config.kafka, ",".join(sorted(topics)), max_records=limit)
    truth = None if config.labels.topic is None else read.stream(ready.spark, config.kafka, config.labels.topic, max_records=limit)
    inputs = labels.Inputs(predictions, truth, ready.label_schema)
    query = learn.start(inputs, config, publisher=publisher, on_error=failed.append)
    return Lane(learn.LANE, query, config.labels.topic or sorted(topics)[0], failed)


def _score_lane(ready: preflight.Ready, config: Config) -> Lane:
    assert ready.model is not None
    events = read.stream(
        ready.spark,
        config.kafka,
        config.events.topic,
        starting=config.events.starting,
        fail_on_data_loss=config.events.on_data_loss == "fail",
        max_records=config.score.max_events_per_trigger if ready.mode == "microbatch" else None,
    )
    weights = weights_file.frame(ready.spark, f"{config.state}/{weights_file.FILE}") if config.learners else None
    return Lane(score.LANE, score.start(events, config, ready.schema, ready.model, mode=ready.mode, weights=weights), config.events.topic)


def _monitor_lane(ready: preflight.Ready, config: Config) -> Lane:
    failed: list[BaseException] = []
    query = ready.monitor.start(ready.spark, on_error=failed.append)
    return Lane(LANE, query, config.events.topic, failed)
