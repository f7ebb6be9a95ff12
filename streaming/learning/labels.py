"""Labels beside predictions: which label tells the truth about which answer. Pure functions of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from streaming.config.load import Config
from streaming.config.sections import Events, Labels
from streaming.config.values import interval
from streaming.learning.summaries import ROWS
from streaming.records import predictions
from streaming.records.events import decode, in_future
from streaming.records.predictions import PREDICTION
from streaming.records.schema import META, PROBLEM, field_column


@dataclass(frozen=True)
class Inputs:
    """The raw Kafka records the lane reads. `labels` is None when the events carry their own labels."""

    predictions: DataFrame
    labels: DataFrame | None
    label_schema: StructType


def label_events(labels: Labels, max_future: str | None = None) -> Events:
    """How a record of the labels topic is decoded: as an event whose key and time are those of the event it is about."""
    ddl = labels.ddl or f"`{labels.key}` STRING, `{labels.time}` STRING, `{labels.label}` DOUBLE"
    return Events.model_validate({"topic": labels.topic, "schema": ddl, "key": labels.key, "time": labels.time, "max_future": max_future})


def answers(records: DataFrame, learners: Sequence[str], max_future: str | None = None) -> DataFrame:
    """The learners' own prediction records: what each was shown (`features`) and what it answered.

    One whose event is further ahead of the time it was scored at than `max_future` is left out: it would move the
    watermark there, and every later label would come too late.
    """
    parsed = predictions.parse(F.col("value"))

    def is_learners(p: Column) -> Column:
        own = p["model"].isin(list(learners)) & p["features"].isNotNull() & p["event_time"].isNotNull()
        return own if max_future is None else own & ~in_future(p["event_time"], F.col("timestamp"), max_future)

    # An ordinary filter would be pushed below the projection, and every record parsed once for each column it asks for.
    kept = records.select(F.explode(F.filter(F.array(parsed), is_learners)).alias("p"))
    return kept.select(*(F.col(f"p.{name}").alias(name) for name in PREDICTION.fieldNames()))


def truth(records: DataFrame, labels: Labels, schema: StructType, max_future: str | None = None) -> DataFrame:
    """Label records: `at` (where the record stood, with its bytes), `label_key`, `label_time`, `y`, `reason`, `error`."""
    e = F.col(META)
    y = field_column(schema, labels.label).try_cast("double")
    no_label = F.struct(F.lit("invalid_label").alias("reason"), F.lit(f"{labels.label} is missing or not a number").alias("error"))
    problem = F.coalesce(F.col(PROBLEM), F.when(y.isNull() | F.isnan(y), no_label))
    return decode(records, label_events(labels, max_future), schema).select(
        F.struct(e["topic"], e["partition"], e["offset"], e["raw_key"], e["raw_value"]).alias("at"),
        e["key"].alias("label_key"),
        e["event_time"].alias("label_time"),
        y.alias("y"),
        problem["reason"].alias("reason"),
        problem["error"].alias("error"),
    )


def pairs(inputs: Inputs, config: Config) -> DataFrame:
    """Each label beside each learner's answer to the event it is about, once; columns of summaries.ROWS, and `came`.

    Labels wait for their prediction and predictions for their label up to `max_delay` of event time, in the order in
    which they come. Of several labels of one event the first stands. A label that finds no prediction comes out alone
    when the time is over; one that cannot be decoded comes out at once, with the reason.

    Spark drops labels that come too late without a word, so every good label comes out a second time, beside the join, with
    nothing but its place and in `came` its time: :func:`late` knows what to make of it.
    """
    assert config.labels is not None
    delay = config.labels.max_delay
    waits = interval(delay)
    names, max_future = [learner.name for learner in config.learners], config.events.max_future
    said = answers(inputs.predictions, names, max_future).withWatermark("event_time", waits)
    if inputs.labels is None:
        once = said.where(F.col("label").isNotNull()).withColumn("once", F.concat_ws("\n", "event_id", "model"))
        own = F.struct(*(F.lit(None).cast(kind).alias(name) for name, kind in _AT))
        return _rows(
            once.dropDuplicatesWithinWatermark(["once"]).select(
                "*", own.alias("at"), F.col("label").alias("y"), _null("reason"), _null("error")
            )
        )
    known = truth(inputs.labels, config.labels, inputs.label_schema, max_future)
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
    beside = known.select("at", "y", "reason", "error", F.when(F.col("reason").isNull(), F.unix_micros("label_time")).alias("came"))
    return _rows(matched).unionByName(_rows(beside))


def late(rows: DataFrame, watermark_ms: int, delay: str) -> DataFrame:
    """The rows of one batch of :func:`pairs`: of the labels beside the join only those that the join has dropped, with the reason.

    `watermark_ms`: before what time, in milliseconds since 1970, the batch takes a label for late.
    """
    came = F.col("came")
    kept = rows.where(came.isNull() | (came <= watermark_ms * 1000))
    words = f"it came more than {delay} (max_delay) of event time after the event that it is about"
    reason = {"reason": F.lit("late_label"), "error": F.lit(words)}
    return kept.withColumns({name: F.when(came.isNull(), F.col(name)).otherwise(word) for name, word in reason.items()}).drop("came")


_OUT: Final = StructType([*ROWS.fields, StructField("came", LongType())])
_AT: Final = (("topic", "string"), ("partition", "int"), ("offset", "bigint"), ("raw_key", "binary"), ("raw_value", "binary"))


def _null(name: str) -> Column:
    return F.lit(None).cast("string").alias(name)


def _rows(frame: DataFrame) -> DataFrame:
    """The columns of ROWS and `came`, null where a frame lacks one."""
    flat = frame.select("*", *(F.col(f"at.{name}").alias(f"label_{name}") for name, _ in _AT))
    have = set(flat.columns)
    return flat.select(*((F.col(f.name) if f.name in have else F.lit(None)).cast(f.dataType).alias(f.name) for f in _OUT.fields))
