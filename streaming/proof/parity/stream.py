"""The golden events over a real broker: topics of their own, the SCORE lane itself, and what stands on the topics afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.errors import LaneDied, ModelError
from streaming.job import failures
from streaming.kafka import admin, read, write
from streaming.kafka.tail import tail
from streaming.lanes import score
from streaming.models.base import Model
from streaming.models.spark.pipeline import SparkModel
from streaming.proof.parity.answers import RowAnswer, in_order, scores
from streaming.proof.parity.golden import Golden
from streaming.records import predictions, rejected
from streaming.records.predictions import Place
from streaming.scorers.base import Scores

_PARTITIONS: Final = 2
_PATIENCE_S: Final = 300.0
#: The shortest trigger that real-time mode takes.
_TRIGGER: Final = {"realtime": "5 seconds", "microbatch": "0 seconds"}


def ask(config: Config, model: SparkModel, golden: Golden, folder: Path, *, name: str, mode: str) -> Scores:
    """What the lane answers in `mode`. Its topics begin with `name` and are deleted at the end.

    ModelError when an event gets no answer or two that differ; LaneDied when the lane takes too long.
    """
    spark = model.spark
    own = private(config, name=f"{name}-{mode}-{uuid4().hex[:6]}", state=folder / f"state-{mode}", mode=mode)
    topics = [own.events.topic, own.predictions.topic, own.predictions.rejected_topic]
    with _topics(spark, own, topics):
        _send(spark, own, golden)
        events = read.stream(spark, own.kafka, own.events.topic)
        query = score.start(events, own, golden.schema, cast(Model, model), mode=mode)
        try:
            _wait(query, spark, own, len(golden))
        finally:
            query.stop()
        return scores(in_order(answers(spark, own), len(golden), f"stream, {mode}"))


def private(config: Config, *, name: str, state: Path, mode: str) -> Config:
    """The configuration with topics and state of its own, and the saved model alone."""
    return config.model_copy(
        update={
            "name": name,
            "events": config.events.model_copy(update={"topic": f"{name}-events", "starting": "earliest"}),
            "predictions": config.predictions.model_copy(
                update={"topic": f"{name}-predictions", "rejected_topic": f"{name}-rejected", "shadow_topic": None}
            ),
            "score": config.score.model_copy(update={"mode": mode, "trigger": _TRIGGER[mode], "max_events_per_trigger": None}),
            "state": str(state),
            "learners": (),
            "labels": None,
        }
    )


def answers(spark: SparkSession, config: Config) -> dict[int, RowAnswer]:
    """What stands on the topics, by the number of the event, which its record has for a key."""
    topic = config.events.topic
    numbers = {Place(topic, r["partition"], r["offset"]): int(r["key"]) for r in _records(spark, config, topic)}
    said: list[tuple[int, RowAnswer]] = []
    for record in _records(spark, config, config.predictions.topic):
        given = predictions.parse_value(record["value"])
        said.append((numbers[Place.parse(given["event_id"])], given))
    for record in _records(spark, config, config.predictions.rejected_topic):
        refused = rejected.parse((each["key"], each["value"]) for each in record["headers"])
        assert refused is not None  # the lane alone writes to this topic
        said.append((numbers[refused.place], {"error": refused.error}))
    by_row: dict[int, RowAnswer] = {}
    for row, answer in said:
        if by_row.setdefault(row, answer) != answer:
            raise ModelError(f"parity: stream: event {row} has two answers that differ")
    return by_row


def _records(spark: SparkSession, config: Config, topic: str) -> list[dict[str, Any]]:
    records = read.whole(spark, config.kafka, topic).select("key", "value", "partition", "offset", "headers")
    return cast(list[dict[str, Any]], records.toArrow().to_pylist())


def _send(spark: SparkSession, config: Config, golden: Golden) -> None:
    table = pa.table({"key": [str(i).encode() for i in range(len(golden))], "value": [line.encode() for line in golden.lines()]})
    write.batch(spark.createDataFrame(table).withColumn("topic", F.lit(config.events.topic)), config.kafka)


def _wait(query: StreamingQuery, spark: SparkSession, config: Config, n: int) -> None:
    """Return when n records stand on the two output topics."""
    deadline = time.monotonic() + _PATIENCE_S
    topics = tail(spark, config.kafka)
    try:
        while True:
            there = sum(sum(topics.ends(topic).values()) for topic in (config.predictions.topic, config.predictions.rejected_topic))
            if there >= n:
                return
            if not query.isActive:
                raise failures.explain(score.LANE, query)
            if time.monotonic() > deadline:
                raise LaneDied(f"parity: stream: {there} of {n} events were answered within {_PATIENCE_S:.0f} s; try fewer --rows")
            time.sleep(0.2)
    finally:
        topics.close()


@contextmanager
def _topics(spark: SparkSession, config: Config, names: list[str]) -> Iterator[None]:
    """The topics, for the length of the block."""
    admin.create_topics(spark, config.kafka, dict.fromkeys(names, _PARTITIONS))
    try:
        yield
    finally:
        admin.delete_topics(spark, config.kafka, names)
