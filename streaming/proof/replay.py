"""A version of a learner, proved by learning it again from the topics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from streaming.config.load import Config
from streaming.errors import StateError
from streaming.kafka import read
from streaming.learning import labels
from streaming.learning.state_log import Snapshot
from streaming.learning.teach import Learning
from streaming.learning.versions import learner
from streaming.online.base import to_arrays
from streaming.records import predictions
from streaming.records.schema import event_schema


@dataclass(frozen=True)
class Proof:
    """The outcome of a replay: how many batches and labels, and the largest difference of any number in the state."""

    batches: int
    labels: int
    difference: float

    @property
    def equal(self) -> bool:
        """Bit for bit."""
        return self.difference == 0.0


def replay(config: Config, name: str, *, first: str, last: str, spark: SparkSession) -> Proof:
    """Learn version `last` again from version `first` and the topics, and compare it with what the job made.

    Features and labels are read from the topics, the membership and order of each batch from the log. StateError when
    a batch between the two is no longer kept, or the topics no longer have a record.
    """
    learning = learner(config, name, lambda: spark)
    start, goal = learning.log.version(first), learning.log.version(last)
    steps = _steps(learning, start, goal)
    shown = _shown(config, learning, steps, spark)
    state = learning.state_of(start)
    learned = 0
    for step in steps:
        refs, sizes = step.extra["refs"], step.extra["sizes"]
        learned += len(refs)
        cuts = np.cumsum(sizes)[:-1]
        rows = [
            (np.array([shown[_id(r)][0] for r in part]), np.array([shown[_id(r)][1] for r in part]))
            for part in np.split(refs, cuts)
            if len(part)
        ]
        if state is None:
            state = learning.learner.init(rows[0][0].shape[1])
        current = state
        state = learning.learner.update(
            current, reduce(learning.learner.merge, [learning.learner.summarize(current, X, y) for X, y in rows])
        )
    again, kept = (to_arrays(state) if state is not None else {}), goal.state
    difference = max((float(np.max(np.abs(np.nan_to_num(again[k] - kept[k])), initial=0.0)) for k in kept), default=0.0)
    return Proof(len(steps), learned, difference)


def _steps(learning: Learning, start: Snapshot, goal: Snapshot) -> list[Snapshot]:
    """The states that lead from `start` to `goal`, following what each was learned from; only those that learned."""
    chain: list[Snapshot] = []
    at = goal
    while at.meta.batch > start.meta.batch:
        if at.meta.learned:
            chain.append(at)
        if at.meta.base not in {*learning.log.batches(), start.meta.batch}:
            raise StateError(
                f"learner {learning.name}: batch {at.meta.base} is no longer kept, so version {goal.meta.version} cannot be learned again from "
                f"{start.meta.version}; all of the newest 100 batches are kept: choose two versions among them"
            )
        at = start if at.meta.base == start.meta.batch else learning.log.get(at.meta.base)
    if at.meta.batch != start.meta.batch:
        raise StateError(
            f"learner {learning.name}: version {goal.meta.version} was not learned from {start.meta.version}, but from {at.meta.version} (a rollback)"
        )
    return chain[::-1]


def _id(ref: NDArray[np.int64]) -> tuple[int, int, int, int]:
    return int(ref[0]), int(ref[1]), int(ref[2]), int(ref[3])


def _shown(
    config: Config, learning: Learning, steps: list[Snapshot], spark: SparkSession
) -> dict[tuple[int, int, int, int], tuple[list[float], float]]:
    """Features and label of every row the steps learned, by its reference."""
    refs = np.concatenate([step.extra["refs"] for step in steps]) if steps else np.zeros((0, 4), dtype=np.int64)
    wanted = spark.createDataFrame([_id(r) for r in refs], "ep INT, eo BIGINT, lp INT, lo BIGINT")
    assert config.labels is not None
    said = labels.answers(read.whole(spark, config.kafka, config.topic_of(learning.name)), [learning.name])
    partition, offset = predictions.position(F.col("event_id"))
    said = said.select(partition.alias("ep"), offset.alias("eo"), "features", "label").dropDuplicates(["ep", "eo"])
    shown = wanted.join(said, ["ep", "eo"])
    if config.labels.topic is not None:
        events = labels.label_events(config.labels)
        truth = labels.truth(read.whole(spark, config.kafka, config.labels.topic), config.labels, event_schema(spark, events))
        truth = truth.select(F.col("at.partition").alias("lp"), F.col("at.offset").alias("lo"), F.col("y").alias("label"))
        shown = shown.drop("label").join(truth, ["lp", "lo"])
    rows: list[Any] = shown.select("ep", "eo", "lp", "lo", "features", "label").collect()
    by_reference = {(r[0], r[1], r[2], r[3]): (list(r[4]), float(r[5])) for r in rows}
    if len(by_reference) != len({_id(r) for r in refs}):
        raise StateError(
            f"learner {learning.name}: the topics have {len(by_reference)} of the {len(refs)} labelled events; the others are gone (retention)"
        )
    return by_reference
