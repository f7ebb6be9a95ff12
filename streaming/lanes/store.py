"""The STORE lane: predictions in, the newest of each (key, model) upserted into the operational store.

Exactly once in effect: a repeated or reordered prediction changes nothing, so the store is a function of the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import write
from streaming.records import predictions
from streaming.records import rejected as refusals
from streaming.records.events import in_future, original, say
from streaming.records.predictions import NEWEST, PREDICTION, STORED
from streaming.stores.base import Store

LANE: Final = "store"

#: Why the lane rejects a record.
REASONS: Final = ("null_value", "not_a_prediction", "future_time")

#: Up to so many predictions are brought into order by one task: sooner done than a second stage is scheduled.
_FEW: Final = 20_000


@dataclass(frozen=True)
class Counts:
    """What one batch held. `rejected`: by reason, those that there were."""

    predictions: int
    rejected: Mapping[str, int]


def parse(records: DataFrame, max_future: str | None) -> DataFrame:
    """Records of the predictions topic as rows to store: the columns of STORED, `raw` and `problem`.

    `problem` is null on a good row; on a bad one STRUCT<reason, error> says what is wrong, and `raw` has the original record. A
    champion that has learned nothing yet says nothing of an event: `prediction` is null then, and so is `problem`.
    A prediction whose event is further ahead of the time it was scored at than `max_future` would stand for ever: no later one is newer.
    """
    read = records.select(original(records).alias("raw"), predictions.parse(F.col("value")).alias("p"))
    fields = {name: F.col(f"p.{name}") for name in STORED.fieldNames() if name in PREDICTION.fieldNames()}
    fields["source_partition"], fields["source_offset"] = predictions.position(F.col("p.event_id"))
    fields["scored_at"] = F.col("raw.timestamp")
    rows = read.select("raw", *(fields[name].alias(name) for name in STORED.fieldNames()))
    missing = F.filter(F.array(*(F.when(F.col(f.name).isNull(), F.lit(f.name)) for f in STORED.fields if not f.nullable)), F.isnotnull)
    words = F.concat(F.lit("not a prediction: missing or unreadable: "), F.concat_ws(", ", missing))
    problem = F.when(F.col("raw.raw_value").isNull(), say("null_value", "the record has no value (a tombstone)"))
    said_nothing = [F.col(name).isNull() for name in ("model_version", "prediction", "probability")]
    placed = [F.col(name).isNotNull() for name in ("key", "model", "event_time", "source_offset")]
    problem = problem.when(reduce(Column.__and__, [*said_nothing, *placed]), F.lit(None))
    problem = problem.when(F.size(missing) > 0, say("not_a_prediction", words))
    if max_future is not None:
        ahead = f"event_time is more than {max_future} (events.max_future) ahead of the time of scoring"
        problem = problem.when(in_future(F.col("event_time"), F.col("scored_at"), max_future), say("future_time", ahead))
    return rows.withColumn("problem", problem)


def newest(rows: DataFrame) -> DataFrame:
    """The good rows with a prediction, one per (key, model): the newest, as the store itself would decide."""
    others = [name for name in STORED.fieldNames() if name not in {"key", "model"}]
    order = F.struct(*NEWEST)
    best = (
        rows.where(F.col("problem").isNull() & F.col("prediction").isNotNull())
        .groupBy("key", "model")
        .agg(F.max_by(F.struct(*others), order).alias("best"))
    )
    return best.select("key", "model", *(F.col(f"best.{name}").alias(name) for name in others)).select(*STORED.fieldNames())


def rejected(rows: DataFrame, config: Config) -> DataFrame:
    """The bad rows as Kafka records for the rejected topic: original bytes, the reason in the headers."""
    problem = F.col("problem")
    refused = refusals.record(config, source=F.col("raw"), problem=problem, lane=LANE)
    return rows.where(problem.isNotNull()).select(refused.alias("record")).select("record.*")


def upsert(rows: DataFrame, batch_id: int, *, store: Store, config: Config) -> Counts:
    """Bring one batch into the store. Idempotent: safe to repeat at any point.

    The store first, then the rejected topic: a crash between the two repeats the batch, the store ignores the
    repeat, and the rejected records are written again with the same headers.
    """
    counts, reason = Observation(), F.col("problem.reason")
    counted = [F.count(F.lit(1)).alias("all"), *(F.count_if(reason == word).alias(word) for word in REASONS)]
    with _plan_as_made(rows.sparkSession):
        store.upsert(newest(rows.observe(counts, *counted)), batch_id)
    said = Counts(int(counts.get["all"]), {word: n for word in REASONS if (n := int(counts.get[word]))})
    if said.rejected:
        write.batch(rejected(rows, config), config.kafka)
    return said


def gathered(rows: DataFrame, before: Counts | None) -> DataFrame:
    """The rows in one partition after a batch of few: one stage then does what otherwise takes a shuffle.

    Only time depends on it. After a crash there may be a backlog, so the first batch is taken for a great one.
    """
    return rows.coalesce(1) if before is not None and before.predictions <= _FEW else rows


@contextmanager
def _plan_as_made(spark: SparkSession) -> Iterator[None]:
    """Within the block Spark runs plans as they were made. Changed while it runs, the plan of a batch without one good row is replaced by
    an empty one, the count of its bad rows is gone with it, and who asks for it waits for ever."""
    key = "spark.sql.adaptive.enabled"
    before = str(spark.conf.get(key))
    spark.conf.set(key, "false")
    try:
        yield
    finally:
        spark.conf.set(key, before)


def start(
    records: DataFrame,
    config: Config,
    store: Store,
    *,
    on_error: Callable[[BaseException], None],
    on_rejected: Callable[[Mapping[str, int]], None] = lambda counts: None,
) -> StreamingQuery:
    """Start the lane's query on a stream of prediction records.

    `on_error` gets the original exception of a failed batch: on its way through the JVM its type would be lost.
    `on_rejected` gets the number of rejected records by reason.
    """

    last: Counts | None = None

    def batch(rows: DataFrame, batch_id: int) -> None:
        nonlocal last
        try:
            last = upsert(gathered(rows, last), batch_id, store=store, config=config)
            if last.rejected:
                on_rejected(last.rejected)
        except BaseException as error:
            on_error(error)
            raise

    return (
        parse(records, config.events.max_future)
        .writeStream.foreachBatch(batch)
        .option("checkpointLocation", f"{config.state}/checkpoints/{LANE}")
        .queryName(f"{config.name}-{LANE}")
        .trigger(processingTime=interval(config.store.trigger))
        .start()
    )
