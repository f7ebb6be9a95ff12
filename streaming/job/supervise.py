"""Running lanes, looked at again and again: their progress is reported, and a lane that died ends the watch."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.errors import BrokerUnavailable, StreamingError
from streaming.job import failures
from streaming.kafka.tail import Tail, tail
from streaming.learning.publish import Publisher
from streaming.monitor import progress as report

log = logging.getLogger(__name__)

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


def watch(
    active: SparkSession,
    config: Config,
    running: list[Lane],
    stop: threading.Event,
    on_progress: Callable[[report.Progress], None],
    publisher: Publisher | None,
) -> None:
    """Report every batch to `on_progress` until `stop` is set, and carry out what people ask of the learners through `publisher`.

    Raises the error of the first lane that dies.
    """
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
    reports = [json.loads(entry.json()) for entry in lane.query._jsq.recentProgress()]
    new = [entry for entry in reports if entry["timestamp"] > lane.seen_at]
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
