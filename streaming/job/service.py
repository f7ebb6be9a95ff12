"""The long-running job: builds the lanes from a config, starts them, watches each one, stops them cleanly."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.errors import BrokerUnavailable, StreamingError
from streaming.job import failures, preflight
from streaming.kafka import read
from streaming.kafka.tail import Tail, tail
from streaming.lanes import learn, score, store
from streaming.learning import labels, weights_file
from streaming.learning.claim import claim
from streaming.learning.publish import Publisher
from streaming.monitor import progress as report
from streaming.runtime import files, spark

log = logging.getLogger(__name__)

LANES: Final = (score.LANE, store.LANE, learn.LANE)

#: How often the lanes are looked at.
_LOOK_EVERY_S: Final = 0.5


@dataclass
class Lane:
    """A running query and what the watcher knows of it."""

    name: str
    query: StreamingQuery
    topic: str
    #: The first exception of a batch, with its type: through the JVM only its text would come back.
    failed: list[BaseException] = field(default_factory=list)
    #: Spark's timestamp of the newest report that was logged.
    seen_at: str = ""


def serve(
    config: Config,
    *,
    lanes: Collection[str] | None = None,
    source: str = "config",
    stop: threading.Event | None = None,
    on_progress: Callable[[report.Progress], None] | None = None,
) -> None:
    """Run the lanes until `stop` is set, then stop them cleanly and return. `lanes` None: all that the config has work for.

    Raises the error of the first lane that dies, after stopping the others: TerminalError or TransientError.
    """
    stop = stop or threading.Event()
    lanes = default_lanes(config) if lanes is None else lanes
    with session(config) as active, ExitStack() as held:
        if spark.submitted():
            spark.on_sigterm(active, stop.set)
        ready = preflight.demand(active, config, lanes=lanes, source=source)
        state = files.folder(config.state, lambda: active)
        if learn.LANE in lanes:
            held.enter_context(claim(state))
        publisher = Publisher(ready.learning, state, config.events.topic) if config.learners else None
        running = _start(ready, config, lanes, publisher)
        log.info(
            "started name=%s lanes=%s mode=%s model=%s:%s",
            config.name,
            ",".join(lanes),
            ready.mode,
            config.model.name,
            config.model.version,
        )
        try:
            asked = publisher if learn.LANE in lanes else None
            _watch(ready.spark, config, running, stop, on_progress or _log, asked)
        finally:
            _stop(running)
    log.info("stopped name=%s", config.name)


def default_lanes(config: Config) -> tuple[str, ...]:
    """The lanes that a config has work for: `learn` only when there are learners."""
    return tuple(name for name in LANES if name != learn.LANE or config.learners)


@contextmanager
def session(config: Config, *, delta: bool = False) -> Iterator[SparkSession]:
    """The Spark session of a job, with enough task slots for its lanes; stopped at the end. `delta`: Delta tables are read or written."""
    active = open_session(config, delta=delta)
    try:
        yield active
    finally:
        stop_quietly(active)


def open_session(config: Config, *, slots: int = preflight.LOCAL_SLOTS, delta: bool = False) -> SparkSession:
    """Start Spark as the config wants it. Spark's own log goes to `state`/logs/spark.log when `state` is local."""
    target = Path(config.state.removeprefix("file://")) / "logs" / "spark.log" if files.is_local(config.state) else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    master = config.spark.master or f"local[{slots}]"
    options = (spark.LOCAL_STATE if target is not None else {}) | config.spark.options
    return spark.session(config.name, master=master, options=options, delta=delta or config.store.kind == "delta", log=target)


def stop_quietly(active: SparkSession) -> None:
    """Stop Spark; a JVM that is already gone is stopped enough."""
    try:
        active.stop()
    except (Py4JError, OSError):
        log.debug("spark was gone already")


def _start(ready: preflight.Ready, config: Config, lanes: Collection[str], publisher: Publisher | None) -> list[Lane]:
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
    except BaseException:
        _stop(running)
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


def _watch(
    active: SparkSession,
    config: Config,
    running: list[Lane],
    stop: threading.Event,
    on_progress: Callable[[report.Progress], None],
    publisher: Publisher | None,
) -> None:
    ends = tail(active, config.kafka)
    try:
        while not stop.wait(_LOOK_EVERY_S):
            if publisher is not None:
                _carry_out(publisher)
            for lane in running:
                for batch in _new_batches(lane):
                    log.debug("lane=%s batch=%s spent %s", lane.name, batch["batchId"], json.dumps(batch.get("durationMs")))
                    on_progress(_measure(lane, batch, ends))
                if not lane.query.isActive and not stop.is_set():
                    raise _cause(lane)
    finally:
        ends.close()


def _carry_out(publisher: Publisher) -> None:
    """What people asked of the learners. A state that cannot be read now is read at the next look: scoring goes on."""
    try:
        publisher.carry_out()
    except (OSError, Py4JError) as error:
        log.warning("requests to the learners are not carried out now: %s", error)


def _cause(lane: Lane) -> StreamingError:
    first = next((error for error in lane.failed if isinstance(error, StreamingError)), None)
    if first is None:
        return failures.explain(lane.name, lane.query)
    return type(first)(f"lane {lane.name}: {first}")


def _new_batches(lane: Lane) -> list[dict[str, Any]]:
    """Reports that came since the last look, oldest first."""
    found = [json.loads(entry.json()) for entry in lane.query._jsq.recentProgress()]
    new = [entry for entry in found if entry["timestamp"] > lane.seen_at]
    if new:
        lane.seen_at = new[-1]["timestamp"]
    return new


def _measure(lane: Lane, batch: dict[str, Any], ends: Tail) -> report.Progress:
    read_to = report.offsets(batch, lane.topic)
    lag_events: int | None = None
    lag_s: float | None = None
    try:
        lag_events = report.behind(read_to, ends.ends(lane.topic))
        lag_s = ends.age_s(lane.topic, read_to) if lag_events else 0.0
    except BrokerUnavailable:
        # Whether the lanes survive an outage is their own affair; a figure for the log is no reason to stop.
        log.warning("lane=%s lag unknown: the broker does not answer", lane.name)
    rejected = int((batch.get("observedMetrics") or {}).get(lane.name, {}).get("rejected") or 0)
    return report.progress(lane.name, batch, lag_events=lag_events, lag_s=lag_s, rejected=rejected)


def _log(progress: report.Progress) -> None:
    log.info("%s", progress.line())


def _stop(running: list[Lane]) -> None:
    for lane in running:
        try:
            lane.query.stop()
        except Py4JError as error:
            log.debug("lane %s was gone already: %s", lane.name, type(error).__name__)
