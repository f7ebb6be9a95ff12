"""The MONITOR lane: windows of statistics against the baseline, into the history, onto a topic, and alerts.

A window is a function of its records: the order of the steps in :func:`watch_batch` is the guarantee. A crash before step 4
repeats the batch from the same rows and the same state, and writes the same files again; after it the repeat changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import StructType

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import read, write
from streaming.lanes.monitor_alerts import act, tell
from streaming.lanes.monitor_rows import MonitorInputs, payload, rows
from streaming.lanes.monitor_state import Watcher, baseline_in_force, history, keep_in_force, open_watcher
from streaming.learning import labels
from streaming.models import baselines
from streaming.monitor import LANE, verdict, windows
from streaming.monitor.alerts import Service
from streaming.monitor.record import Record, of_window, topic_value
from streaming.monitor.windows import BatchOutcome
from streaming.records.schema import event_schema
from streaming.runtime import files

__all__ = ["LANE", "Prepared", "baseline_in_force", "history", "open_watcher", "prepare", "start", "watch_batch"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The lane, ready to be started. As text: what it watches."""

    watcher: Watcher
    schema: StructType
    label_schema: StructType | None

    def __str__(self) -> str:
        layout, section = self.watcher.watch.layout, self.watcher.config.monitor
        assert section is not None
        base = self.watcher.watch.baseline
        by = f", slices by {', '.join(layout.slices)}" if layout.slices else ""
        return f"{len(layout.columns)} columns against {base.rows} rows of {base.source}, windows of {section.window}{by}"

    def measured_in(self, registry: CollectorRegistry) -> None:
        """Show the newest window and the alerts in a job's registry. Once for each registry."""
        registry.register(self.watcher.gauges)

    def start(self, spark: SparkSession, *, on_error: Callable[[BaseException], None]) -> StreamingQuery:
        """Start the query on the job's topics."""
        config = self.watcher.config
        assert config.monitor is not None
        keep_in_force(self.watcher.state, self.watcher.watch.baseline)
        topics, section = config.topics(), config.monitor

        def stream(*roles: str) -> DataFrame:
            names = ",".join(sorted({topics[role] for role in roles if role in topics}))
            return read.stream(
                spark, config.kafka, names, starting=section.starting, fail_on_data_loss=False, max_records=section.max_records_per_trigger,
                headers="rejected" in roles,
            )  # fmt: skip

        truth = None if self.label_schema is None else stream("labels")
        inputs = MonitorInputs(stream("events"), stream("predictions", "shadow"), stream("rejected"), truth, self.schema, self.label_schema)
        return start(inputs, watcher=self.watcher, on_error=on_error)


def prepare(config: Config, spark: SparkSession, *, source: str) -> Prepared:
    """Find the baseline and make the lane ready. ConfigError when there is none, or it does not fit the config."""
    state = files.folder(config.state, lambda: spark)
    baseline = baselines.load(config, state, spark)
    watcher = open_watcher(config, baseline, state, source=source)
    schema = event_schema(spark, config.events, source=source)
    by_topic = config.labels is not None and config.labels.topic is not None
    label_schema = (
        event_schema(spark, labels.label_events(config.labels), source=f"{source}: labels") if by_topic and config.labels else None
    )
    return Prepared(watcher, schema, label_schema)


def watch_batch(
    batch: DataFrame, n: int, *, watcher: Watcher, at: Callable[[str], None] = lambda step: None
) -> tuple[BatchOutcome, list[Record]] | None:
    """Carry micro-batch `n` into the windows; exactly once, however often it is called. None: it had been before.

    `at` is told the name of each step as it ends; crash tests stop the process there.
    """
    if watcher.states.has(n):
        return None
    # Step 1. The state to go on from is looked up by number.
    before = watcher.states.before(n, watcher.watch)
    revision = watcher.states.revision(n)
    # Step 2. One pass over the rows; only sums and figures come to the driver.
    brought = payload(batch.toArrow(), watcher.watch)
    at("collected")
    counted = windows.fold(before, brought, watcher.watch, recall=lambda start: watcher.history.sums(start, before=revision))
    folded = verdict.concepts(counted, watcher.watch)
    records = _records(folded, revision, watcher)
    # Step 3. The windows that are over, then the alerts. A crash after this writes the same files again, and the same records
    # with the same keys; an alert is told again, with the same id.
    named = {slice_: watcher.watch.baseline.slice_value(slice_) for slice_ in watcher.watch.layout.slice_names() if slice_}
    for window, record in zip(folded.published, records, strict=True):
        watcher.history.add(window.start, revision, record.to_arrow(named), window.statistics)
    at("written")
    _publish(batch.sparkSession, records, watcher.config)
    beside = _alarm(batch.sparkSession, revision, records, folded.state.beside, watcher)
    folded = replace(folded, state=replace(folded.state, beside=beside))
    watcher.show(records, beside)
    at("published")
    # Step 4. The state, first writer wins: from here on a repeat of the batch changes nothing.
    watcher.states.add(n, folded.state)
    at("added")
    # Step 5. Housekeeping, which may be left undone: it is done again with the next window.
    if records:
        watcher.tidy(folded.state.newest)
    return folded, records


def _records(folded: BatchOutcome, revision: int, watcher: Watcher) -> list[Record]:
    beside = folded.state.beside
    return [
        of_window(window, revision, watcher.watch, settings=watcher.settings, more=[*verdict.of_concept(window, beside, watcher.watch)])
        for window in folded.published
    ]


def _alarm(spark: SparkSession, revision: int, records: Sequence[Record], beside: verdict.Beside, watcher: Watcher) -> verdict.Beside:
    """Hold the windows against the rules, tell people, and do what the rules say."""
    config = watcher.config
    assert config.monitor is not None
    service = Service(config.name, config.model.name, watcher.source, config.model.version)
    beside, told, new = verdict.alarms(records, beside, config.monitor.alerts, service, now=datetime.now(UTC))
    watcher.history.add_alerts(revision, [alert.to_json() for alert in told])
    beside = tell(told, beside, config, lambda topic, values: _send(spark, topic, values, config))
    return act(new, beside, config, watcher.state)


def _publish(spark: SparkSession, records: Sequence[Record], config: Config) -> None:
    assert config.monitor is not None
    if not records or config.monitor.topic is None:
        return
    values = [(str(record.start), topic_value(record)) for record in records]
    _send(spark, config.monitor.topic, values, config)


def _send(spark: SparkSession, topic: str, values: Sequence[tuple[str, str]], config: Config) -> None:
    frame = spark.createDataFrame(list(values), "key STRING, value STRING")
    none: Any = F.lit(None).cast("array<struct<key: string, value: binary>>")
    write.batch(
        frame.select(F.lit(topic).alias("topic"), F.col("key").cast("binary"), F.col("value").cast("binary"), none.alias("headers")),
        config.kafka,
    )


def line(n: int, folded: BatchOutcome, records: Sequence[Record]) -> str:
    """The log line of a batch that published something: counts and names of columns, no value of an event."""
    drifted = sorted({m.subject for record in records for m in record.measures if m.drifted and m.subject})
    newest = records[-1]
    return (
        f"lane={LANE} batch={n} windows={len(records)} newest={newest.to_json()['start']} judged={newest.judged} "
        f"drifted={','.join(drifted) or 'nothing'} repeated={folded.taken.repeated} unmatched={folded.taken.unmatched}"
    )


def start(
    inputs: MonitorInputs, *, watcher: Watcher, on_error: Callable[[BaseException], None], at: Callable[[str], None] = lambda step: None
) -> StreamingQuery:
    """Start the lane's query. `on_error` gets the original exception of a failed batch."""
    config = watcher.config
    assert config.monitor is not None

    def batch(frame: DataFrame, n: int) -> None:
        try:
            done = watch_batch(frame, n, watcher=watcher, at=at)
            if done is not None and done[1]:
                log.info("%s", line(n, *done))
        except BaseException as error:
            on_error(error)
            raise

    return (
        rows(inputs, config, watcher.watch)
        .writeStream.foreachBatch(batch)
        .option("checkpointLocation", f"{config.state}/checkpoints/{LANE}")
        .queryName(f"{config.name}-{LANE}")
        .trigger(processingTime=interval(config.monitor.trigger))
        .start()
    )
