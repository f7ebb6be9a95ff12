"""One event and the answers it got, found again on the topics by bounded reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.load import Config
from streaming.errors import ConfigError, StateError
from streaming.kafka import admin, read
from streaming.records import predictions, rejected
from streaming.records.predictions import Place

#: A producer's clock may be ahead of the clock that stamped the answers by this much.
_CLOCKS: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class GivenAnswer:
    """A prediction, or a rejection with its reason."""

    model: str
    model_version: str | None
    prediction: float | None = None
    probability: Sequence[float] | None = None
    features: Sequence[float] | None = None
    reason: str | None = None
    error: str | None = None
    key: str | None = None
    #: How often the same answer stands on the topic: after a crash events are scored again.
    times: int = 1


def place(event_id: str, config: Config) -> Place:
    """The place that `event_id` names. ConfigError when it is none, or lies on another topic than events.topic."""
    try:
        named = Place.parse(event_id)
    except ValueError as unreadable:
        raise ConfigError(str(unreadable)) from unreadable
    if named.topic != config.events.topic:
        raise ConfigError(f"{event_id}: the topic is {named.topic}, this configuration scores {config.events.topic}; give the other CONFIG")
    return named


def event(spark: SparkSession, config: Config, at: Place) -> tuple[DataFrame, datetime]:
    """The record at a place, as one row with Spark's Kafka columns, and its timestamp (aware). StateError when it is not there."""
    first, end = (admin.offsets(spark, config.kafka, at.topic, where) for where in ("earliest", "latest"))
    if at.partition not in end:
        raise StateError(f"{at.id}: the topic {at.topic} has no partition {at.partition}; it has {len(end)}")
    if at.offset >= end[at.partition]:
        raise StateError(f"{at.id}: not there yet; the partition ends before offset {end[at.partition]}")
    if at.offset < first[at.partition]:
        raise StateError(
            f"{at.id}: the broker has deleted it (retention); the oldest it still has is offset {first[at.partition]}; "
            "keep events as long as predictions have to be explained: retention.ms of the topic"
        )
    record = read.between(spark, config.kafka, at.topic, {at.partition: at.offset}, {at.partition: at.offset + 1})
    stamps = record.select(F.unix_micros("timestamp")).collect()
    if len(stamps) != 1:
        raise StateError(f"{at.id}: no record stands at this offset; the topic was compacted, or the offset marks a transaction")
    return record, datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(stamps[0][0]))


def answers(spark: SparkSession, config: Config, at: Place, since: datetime) -> list[GivenAnswer]:
    """The answers on the predictions, shadow and rejected topics from `since` on, one for each model.

    StateError when two answers of one model and version differ: an event has one.
    """
    topics = [topic for role, topic in config.topics().items() if role in {"predictions", "shadow"}]
    said = [answer(record) for topic in topics for record in _told(spark, config, topic, at, since)]
    refused = [answer(record) for record in _refused(spark, config, at, since)]
    newest: dict[tuple[str, str | None], GivenAnswer] = {}
    for each in [*said, *refused]:
        name = (each.model, each.model_version)
        before = newest.get(name, each)
        if replace(before, times=1) != each:
            raise StateError(
                f"{at.id}: {each.model} version {each.model_version} gave two answers that differ; was another model put at the same "
                "uri under the same version? Give each model a version of its own"
            )
        newest[name] = replace(each, times=before.times + 1 if name in newest else 1)
    return list(newest.values())


def answer(record: Mapping[str, Any]) -> GivenAnswer:
    """A record of the SCORE lane, with key, value and headers, as an answer."""
    refused = rejected.parse((each["key"], each["value"]) for each in record.get("headers") or ())
    if refused is not None:
        return GivenAnswer("", None, reason=refused.reason, error=refused.error)
    given = predictions.parse_value(record["value"])
    names = ("model", "model_version", "prediction", "probability", "features", "key")
    return GivenAnswer(**{name: given[name] for name in names})


def _told(spark: SparkSession, config: Config, topic: str, at: Place, since: datetime) -> list[dict[str, Any]]:
    value = F.col("value").cast("string")
    # The first condition is cheap and leaves next to nothing to the second.
    mine = value.contains(at.id) & (F.get_json_object(value, "$.event_id") == at.id)
    return _rows(_since(spark, config, topic, since).where(mine))


def _refused(spark: SparkSession, config: Config, at: Place, since: datetime) -> list[dict[str, Any]]:
    mine = rejected.rejects(at, lane="score")
    return _rows(_since(spark, config, config.predictions.rejected_topic, since).where(mine))


def _rows(records: DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = records.select("key", "value", "headers").toArrow().to_pylist()
    return rows


def _since(spark: SparkSession, config: Config, topic: str, since: datetime) -> DataFrame:
    start = admin.offsets(spark, config.kafka, topic, max(0, int((since - _CLOCKS).timestamp() * 1000)))
    if not start:
        raise ConfigError(f"Kafka at {config.kafka.bootstrap_servers}: no topic {topic}; create it: streaming topics CONFIG")
    return read.between(spark, config.kafka, topic, start, admin.offsets(spark, config.kafka, topic, "latest"))
