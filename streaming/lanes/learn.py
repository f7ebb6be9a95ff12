"""The LEARN lane: labels joined with the features as they were scored, and each learner updated by them, each label once.

The order of the steps in :func:`learn_batch` is the guarantee: a crash before step 4 repeats the batch from the same
rows and the same states; after it the repeat finds the state of this batch and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.types import StructType

from streaming.config.load import Config
from streaming.config.sections import Events, Labels
from streaming.config.values import interval
from streaming.kafka import write
from streaming.learning import state_file, weights_file
from streaming.learning.state_log import Snapshot
from streaming.learning.summaries import ROWS, Job, summarize
from streaming.learning.teach import Learning, Rejected, Taught, teach
from streaming.records import predictions
from streaming.records import rejected as refusals
from streaming.records.events import decode
from streaming.records.predictions import PREDICTION
from streaming.records.schema import META, PROBLEM, field_column
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)

LANE: Final = "learn"


@dataclass(frozen=True)
class Inputs:
    """The raw Kafka records the lane reads. `labels` is None when the events carry their own labels."""

    predictions: DataFrame
    labels: DataFrame | None
    label_schema: StructType


def label_events(labels: Labels) -> Events:
    """How a record of the labels topic is decoded: as an event whose key and time are those of the event it is about."""
    ddl = labels.ddl or f"`{labels.key}` STRING, `{labels.time}` STRING, `{labels.label}` DOUBLE"
    return Events.model_validate({"topic": labels.topic, "schema": ddl, "key": labels.key, "time": labels.time})


def answers(records: DataFrame, learners: Sequence[str]) -> DataFrame:
    """The learners' own prediction records: what each was shown (`features`) and what it answered."""
    parsed = predictions.parse(F.col("value"))

    def theirs(p: Column) -> Column:
        return p["model"].isin(list(learners)) & p["features"].isNotNull() & p["event_time"].isNotNull()

    # An ordinary filter would be pushed below the projection, and every record parsed once for each column it asks for.
    kept = records.select(F.explode(F.filter(F.array(parsed), theirs)).alias("p"))
    return kept.select(*(F.col(f"p.{name}").alias(name) for name in PREDICTION.fieldNames()))


def truth(records: DataFrame, labels: Labels, schema: StructType) -> DataFrame:
    """Label records: `at` (where the record stood, with its bytes), `label_key`, `label_time`, `y`, `reason`, `error`."""
    e = F.col(META)
    y = field_column(schema, labels.label).try_cast("double")
    no_label = F.struct(F.lit("invalid_label").alias("reason"), F.lit(f"{labels.label} is missing or not a number").alias("error"))
    problem = F.coalesce(F.col(PROBLEM), F.when(y.isNull() | F.isnan(y), no_label))
    return decode(records, label_events(labels), schema).select(
        F.struct(e["topic"], e["partition"], e["offset"], e["raw_key"], e["raw_value"]).alias("at"),
        e["key"].alias("label_key"),
        e["event_time"].alias("label_time"),
        y.alias("y"),
        problem["reason"].alias("reason"),
        problem["error"].alias("error"),
    )


def pairs(inputs: Inputs, config: Config) -> DataFrame:
    """Each label beside each learner's answer to the event it is about, once; columns of summaries.ROWS.

    Labels wait for their prediction and predictions for their label up to `max_delay` of event time, in the order in
    which they come. Of several labels of one event the first stands. A label that finds no prediction comes out alone
    when the time is over; one that cannot be decoded comes out at once, with the reason.
    """
    assert config.labels is not None
    delay = config.labels.max_delay
    waits = interval(delay)
    said = answers(inputs.predictions, [learner.name for learner in config.learners]).withWatermark("event_time", waits)
    if inputs.labels is None:
        once = said.where(F.col("label").isNotNull()).withColumn("once", F.concat_ws("\n", "event_id", "model"))
        own = F.struct(*(F.lit(None).cast(kind).alias(name) for name, kind in _AT))
        return _rows(
            once.dropDuplicatesWithinWatermark(["once"]).select(
                "*", own.alias("at"), F.col("label").alias("y"), _null("reason"), _null("error")
            )
        )
    known = truth(inputs.labels, config.labels, inputs.label_schema)
    good = known.where(F.col("reason").isNull()).drop("reason", "error").withWatermark("label_time", waits)
    # A second label of one event, the same or corrected, and a repeated prediction both make a second pair.
    position = F.concat_ws(":", "at.topic", "at.partition", "at.offset")
    joined = good.join(said, (F.col("label_key") == F.col("key")) & (F.col("label_time") == F.col("event_time")), "left_outer")
    once = joined.drop("event_time").withColumn("once", F.coalesce(F.concat("event_id", F.lit("\n"), "model"), position))
    alone = F.col("event_id").isNull()
    matched = once.dropDuplicatesWithinWatermark(["once"]).select(
        "*",
        F.when(alone, F.lit("no_prediction")).alias("reason"),
        F.when(alone, F.lit(f"no prediction of this key and event time came within {delay}")).alias("error"),
    )
    bad = known.where(F.col("reason").isNotNull()).select("at", "y", "reason", "error")
    return _rows(matched).unionByName(_rows(bad))


_AT: Final = (("topic", "string"), ("partition", "int"), ("offset", "bigint"), ("raw_key", "binary"), ("raw_value", "binary"))


def _null(name: str) -> Column:
    return F.lit(None).cast("string").alias(name)


def _rows(found: DataFrame) -> DataFrame:
    """The columns of ROWS, null where a frame lacks one."""
    flat = found.select("*", *(F.col(f"at.{name}").alias(f"label_{name}") for name, _ in _AT))
    have = set(flat.columns)
    return flat.select(*((F.col(f.name) if f.name in have else F.lit(None)).cast(f.dataType).alias(f.name) for f in ROWS.fields))


def learn_batch(
    rows: DataFrame, n: int, *, learning: Sequence[Learning], config: Config, state: Folder, at: Callable[[str], None]
) -> list[Taught]:
    """Carry micro-batch `n` into every learner and publish the new weights; exactly once, however often it is called.

    `at` is told the name of each step as it ends; crash tests stop the process there.
    """
    # Step 1. The states to learn from are looked up by number. A missing one is an error, never a fresh start.
    before = {learner.name: learner.before(n) for learner in learning}
    at("looked up")
    # Step 2. One pass over the rows, beside the rows. Learns nothing yet.
    jobs = [Job(one.name, one.learner, before[one.name].packed(one), before[one.name].learns) for one in learning]
    summaries = summarize(rows, jobs, partitions=config.learn.partitions)
    at("summarized")
    # Step 3. Labels nobody can learn from. A crash after this writes them again: same bytes, same headers.
    _reject(rows, summaries.rejected, config)
    at("rejected")
    # Step 4. The new states, first writer wins: from here on a repeat of the batch changes nothing.
    taught = []
    for learner in learning:
        taught.append(teach(learner, n, before[learner.name], summaries.of(learner.name)))
        at(f"added {learner.name}")
    # Step 5. The score lane sees the new weights. Published again, they are the same.
    publish(learning, [t.snapshot for t in taught], config, state)
    at("published")
    # Step 6. Housekeeping, which may be left undone: it is done again at the next batch.
    for learner, result in zip(learning, taught, strict=True):
        learner.tidy(n, result.snapshot)
    at("tidied")
    return taught


def publish(learning: Sequence[Learning], snapshots: Sequence[Snapshot], config: Config, state: Folder, *, restart: bool = False) -> None:
    """Write the weights file for these states; learners that know nothing yet are left out."""
    weights = {}
    for learner, snapshot in zip(learning, snapshots, strict=True):
        if learner.name in state_file.names(config.learners):
            if snapshot.meta.version is not None:
                state_file.publish(state, learner.name, snapshot.meta.version, learner.state_of(snapshot))
            continue
        found = learner.weights(snapshot)
        if found is not None and found.finite and snapshot.meta.version is not None:
            weights[learner.name] = (snapshot.meta.version, found)
    weights_file.publish(state, config.events.topic, weights, restart=restart)


def _reject(rows: DataFrame, rejected: Sequence[Rejected], config: Config) -> None:
    if not rejected:
        return
    refused = rows.sparkSession.createDataFrame([tuple(vars(r).values()) for r in rejected], _REJECTED)
    source = F.struct("topic", "partition", "offset", "raw_key", "raw_value")
    record = refusals.record(config.predictions.rejected_topic, source=source, reason=F.col("reason"), error=F.col("error"), lane=LANE)
    write.batch(refused.select(record.alias("record")).select("record.*"), config.kafka)


_REJECTED: Final = "topic STRING, partition INT, offset BIGINT, raw_key BINARY, raw_value BINARY, reason STRING, error STRING"


def start(
    inputs: Inputs,
    config: Config,
    *,
    learning: Sequence[Learning],
    state: Folder,
    on_error: Callable[[BaseException], None],
    at: Callable[[str], None] = lambda step: None,
) -> StreamingQuery:
    """Start the lane's query. `on_error` gets the original exception of a failed batch."""

    def batch(rows: DataFrame, n: int) -> None:
        try:
            for taught in learn_batch(rows, n, learning=learning, config=config, state=state, at=at):
                log.info("%s", taught.line())
        except BaseException as error:
            on_error(error)
            raise

    return (
        pairs(inputs, config)
        .writeStream.foreachBatch(batch)
        .outputMode("append")
        .option("checkpointLocation", f"{config.state}/checkpoints/{LANE}")
        .queryName(f"{config.name}-{LANE}")
        .trigger(processingTime=interval(config.learn.trigger))
        .start()
    )
