"""What the lanes report of their batches: a log line, the metrics, and the offsets that Kafka's own tools show.

None of it is worth a lane: what cannot be told now is told with the next batch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery

from streaming.errors import StreamingError
from streaming.job.supervise import Supervised
from streaming.kafka.groups import Groups
from streaming.kafka.tail import Tail
from streaming.monitor import progress as reports
from streaming.monitor.metrics import JobMetrics
from streaming.monitor.progress import Progress
from streaming.monitor.spans import Spans

log = logging.getLogger(__name__)


@dataclass
class Reporter:
    """Tells of every batch once. `name`: of the job; its lanes' consumer groups are NAME-LANE."""

    name: str
    ends: Tail
    groups: Groups
    metrics: JobMetrics
    on_progress: Callable[[Progress], None]
    spans: Spans | None = None
    #: How many partitions each topic had when it was looked at last.
    partitions: dict[str, int] = field(default_factory=dict)
    #: Lanes whose offsets the broker would not take at the last attempt: said once, not with every batch.
    _refused: set[str] = field(default_factory=set)

    def report(self, lane: Supervised) -> None:
        """Tell of the batches that the lane has finished since the last call."""
        if lane.query is None:
            return
        try:
            batches = new_batches(lane.query, after=lane.seen_at)
        except (Py4JError, OSError) as error:
            log.debug("lane=%s no reports: %s", lane.lane.name, type(error).__name__)  # whoever looks at the lane finds out why
            return
        for batch in batches:
            lane.seen_at, lane.batch_began = batch["timestamp"], time.monotonic()
            lane.has_advanced |= bool(batch.get("numInputRows"))
            log.debug("lane=%s batch=%s spent %s", lane.lane.name, batch["batchId"], json.dumps(batch.get("durationMs")))
            progress = self._measure(lane, batch)
            self.metrics.batch(progress, at=time.time())
            if self.spans is not None:
                self.spans.batch(progress, at=time.time())
            self.on_progress(progress)
        if batches:
            self._commit(lane.lane.name, batches[-1])

    def close(self) -> None:
        """Let the connections go; with a JVM that is gone they are gone already."""
        for connection in (self.ends, self.groups):
            with suppress(Py4JError, OSError):
                connection.close()
        if self.spans is not None:
            self.spans.close()

    def _measure(self, lane: Supervised, batch: dict[str, Any]) -> Progress:
        name, topic = lane.lane.name, lane.lane.topic
        read_to = reports.offsets(batch, topic)
        lag_events: int | None = None
        lag_s: float | None = None
        try:
            ends = self.ends.ends(topic)
            self.partitions[topic] = len(ends)
            lag_events = reports.behind(read_to, ends)
            lag_s = self.ends.age_s(topic, read_to) if lag_events else 0.0
        except StreamingError as error:
            # Whether the lanes survive an outage is their own affair; a figure for the log is no reason to stop.
            log.warning("lane=%s lag unknown: %s", name, error)
        return reports.progress(name, batch, lag_events=lag_events, lag_s=lag_s, reasons=lane.lane.rejected.take())

    def _commit(self, lane: str, batch: dict[str, Any]) -> None:
        try:
            self.groups.commit(f"{self.name}-{lane}", reports.read_to(batch))
        except StreamingError as error:
            if lane not in self._refused:
                log.warning("lane=%s offsets of the consumer group %s-%s not committed: %s; the lane goes on", lane, self.name, lane, error)
            self._refused.add(lane)
        else:
            self._refused.discard(lane)


def new_batches(query: StreamingQuery, *, after: str) -> list[dict[str, Any]]:
    """Spark's reports that came after the one with the timestamp `after`, oldest first. In the order in which Spark keeps them, not in that of
    their times: a clock that is set back makes no report an old one.
    """
    kept = query._jsq.recentProgress()
    new: list[dict[str, Any]] = []
    # From the newest backwards: each entry that is asked for is a call to the JVM, and Spark keeps a hundred.
    for i in range(len(kept) - 1, -1, -1):
        if str(kept[i].timestamp()) == after:
            break
        new.append(json.loads(kept[i].json()))
    return new[::-1]
