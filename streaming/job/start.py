"""The lanes of a job, built from its config: what each one is, and how it is started, as often as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.config.values import seconds
from streaming.job import preflight
from streaming.job.supervise import Lane
from streaming.kafka import read
from streaming.lanes import learn, score, store
from streaming.learning import labels, migrate, origin, weights_file
from streaming.learning.publish import Publisher
from streaming.learning.teach import Learned
from streaming.monitor import LANE as MONITOR
from streaming.monitor.counts import PendingCounts
from streaming.runtime import files


def lanes_of(
    ready: preflight.Ready, config: Config, lanes: Collection[str], publisher: Publisher | None, *, on_learned: Callable[[Learned], None]
) -> list[Lane]:
    """The lanes, in the order in which they are started. `publisher`: present when there are learners."""
    built = []
    # The store first: it then sees the very first prediction without a backlog.
    if store.LANE in lanes:
        built.append(_store_lane(ready, config))
    if learn.LANE in lanes and publisher is not None:
        built.append(_learn_lane(ready, config, publisher, on_learned))
    if score.LANE in lanes:
        built.append(_score_lane(ready, config))
    if ready.monitor is not None:
        built.append(_monitor_lane(ready, config))
    return built


def _store_lane(ready: preflight.Ready, config: Config) -> Lane:
    rejected = PendingCounts()

    def begin(on_error: Callable[[BaseException], None]) -> StreamingQuery:
        target, limit = preflight.store_of(ready), config.store.max_predictions_per_trigger
        records = read.stream(ready.spark, config.kafka, config.predictions.topic, max_records=limit, headers=True)
        return store.start(records, config, target, on_error=on_error, on_rejected=rejected.add)

    return Lane(store.LANE, config.predictions.topic, begin, rejected=rejected)


def _learn_lane(ready: preflight.Ready, config: Config, publisher: Publisher, on_learned: Callable[[Learned], None]) -> Lane:
    assert config.labels is not None
    topics = sorted({config.topic_of(learner.name) for learner in config.learners})
    topic, limit, rejected = config.labels.topic, config.learn.max_records_per_trigger, PendingCounts()

    def begins(of: list[str]) -> str:
        """Where a checkpoint that is new reads its labels from: behind those that a state that was taken along has learned."""
        known = [migrate.starting_offsets(ready.learning, name, ready.partitions[name]) for name in of]
        said = {name: where for each in known if each is not None for name, where in each.items()}
        rest = {name: {str(p): -2 for p in range(ready.partitions[name])} for name in of}
        return json.dumps(rest | said) if said else "earliest"

    def begin(on_error: Callable[[BaseException], None]) -> StreamingQuery:
        before = _subscribed(ready, config) & set(config.topics().values()) - {topic}
        both, moved = sorted(before | set(topics)), bool(before) and not before >= set(topics)
        predictions = read.stream(
            ready.spark,
            config.kafka,
            ",".join(both),
            starting=begins(both if topic is None else []),
            # A topic that joins them (another role for a learner) is read from where it begins, which need not be offset 0.
            fail_on_data_loss=not moved,
            max_records=limit,
        )
        truth = None if topic is None else read.stream(ready.spark, config.kafka, topic, starting=begins([topic]), max_records=limit)
        inputs = labels.Inputs(predictions, truth, ready.label_schema)
        return learn.start(inputs, config, publisher=publisher, on_error=on_error, on_learned=on_learned, on_rejected=rejected.add)

    return Lane(learn.LANE, topic or topics[0], begin, rejected=rejected)


def _subscribed(ready: preflight.Ready, config: Config) -> set[str]:
    """The topics that the checkpoint of the learn lane reads; none when there is no checkpoint.

    It goes on reading them whatever role its learners have now: what waits there for labels is learned.
    """
    checkpoint = files.folder(f"{config.state}/checkpoints/{learn.LANE}", lambda: ready.spark)
    return set(origin.ends(checkpoint, origin.next_batch(checkpoint) - 1))


def _score_lane(ready: preflight.Ready, config: Config) -> Lane:
    def begin(on_error: Callable[[BaseException], None]) -> StreamingQuery:
        assert ready.model is not None
        events = read.stream(
            ready.spark,
            config.kafka,
            config.events.topic,
            starting=config.events.starting,
            fail_on_data_loss=config.events.on_data_loss == "fail",
            max_records=config.score.max_events_per_trigger if ready.mode == "microbatch" else None,
            headers=True,
        )
        weights = weights_file.frame(ready.spark, f"{config.state}/{weights_file.FILE}") if config.learners else None
        return score.start(events, config, ready.schema, ready.model, mode=ready.mode, weights=weights)

    trigger_s = seconds(score.trigger_of(config, ready.mode)) if ready.mode == "realtime" else None
    return Lane(score.LANE, config.events.topic, begin, vital=True, trigger_s=trigger_s)


def _monitor_lane(ready: preflight.Ready, config: Config) -> Lane:
    def begin(on_error: Callable[[BaseException], None]) -> StreamingQuery:
        query: StreamingQuery = ready.monitor.start(ready.spark, on_error=on_error)
        return query

    return Lane(MONITOR, config.events.topic, begin)
