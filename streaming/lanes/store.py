"""The STORE lane: predictions in, the newest of each (key, model) upserted into the operational store.

Exactly once in effect: a repeated or reordered prediction changes nothing, so the store is a function of the topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import write
from streaming.records import predictions
from streaming.records import rejected as refusals
from streaming.records.predictions import NEWEST, PREDICTION, STORED
from streaming.stores.base import Store

LANE: Final = "store"

#: Up to so many predictions are brought into order by one task: sooner done than a second stage is scheduled.
_FEW: Final = 20_000


@dataclass(frozen=True)
class Counts:
    """What one batch held."""

    predictions: int
    rejected: int


def parse(records: DataFrame) -> DataFrame:
    """Records of the predictions topic as rows to store: the columns of STORED, `raw` and `reason`.

    `reason` is null on a good row; on a bad one it says what is wrong, and `raw` has the original record.
    """
    place = F.struct("topic", "partition", "offset", "timestamp", F.col("key").alias("raw_key"), F.col("value").alias("raw_value"))
    read = records.select(place.alias("raw"), predictions.parse(F.col("value")).alias("p"))
    fields = {name: F.col(f"p.{name}") for name in STORED.fieldNames() if name in PREDICTION.fieldNames()}
    fields["source_partition"], fields["source_offset"] = predictions.position(F.col("p.event_id"))
    fields["scored_at"] = F.col("raw.timestamp")
    rows = read.select("raw", *(fields[name].alias(name) for name in STORED.fieldNames()))
    missing = F.filter(F.array(*(F.when(F.col(f.name).isNull(), F.lit(f.name)) for f in STORED.fields if not f.nullable)), F.isnotnull)
    words = F.concat(F.lit("not a prediction: missing or unreadable: "), F.concat_ws(", ", missing))
    return rows.withColumn("reason", F.when(F.size(missing) > 0, words))


def newest(rows: DataFrame) -> DataFrame:
    """The good rows, one per (key, model): the newest, as the store itself would decide."""
    others = [name for name in STORED.fieldNames() if name not in {"key", "model"}]
    order = F.struct(*NEWEST)
    best = rows.where(F.col("reason").isNull()).groupBy("key", "model").agg(F.max_by(F.struct(*others), order).alias("best"))
    return best.select("key", "model", *(F.col(f"best.{name}").alias(name) for name in others)).select(*STORED.fieldNames())


def rejected(rows: DataFrame, topic: str) -> DataFrame:
    """The bad rows as Kafka records for the rejected topic: original bytes, the reason in the headers."""
    raw = F.col("raw")
    word = F.when(raw["raw_value"].isNull(), F.lit("null_value")).otherwise(F.lit("not_a_prediction"))
    refused = refusals.record(topic, source=raw, reason=word, error=F.col("reason"), lane=LANE)
    return rows.where(F.col("reason").isNotNull()).select(refused.alias("record")).select("record.*")


def upsert(rows: DataFrame, batch_id: int, *, store: Store, config: Config) -> Counts:
    """Bring one batch into the store. Idempotent: safe to repeat at any point.

    The store first, then the rejected topic: a crash between the two repeats the batch, the store ignores the
    repeat, and the rejected records are written again with the same headers.
    """
    counts = Observation()
    bad = F.count_if(F.col("reason").isNotNull()).alias("bad")
    store.upsert(newest(rows.observe(counts, F.count(F.lit(1)).alias("all"), bad)), batch_id)
    said = Counts(int(counts.get["all"]), int(counts.get["bad"]))
    if said.rejected:
        write.batch(rejected(rows, config.predictions.rejected_topic), config.kafka)
    return said


def gathered(rows: DataFrame, before: Counts | None) -> DataFrame:
    """The rows in one partition after a batch of few: one stage then does what otherwise takes a shuffle.

    Only time depends on it. After a crash there may be a backlog, so the first batch is taken for a great one.
    """
    return rows.coalesce(1) if before is not None and before.predictions <= _FEW else rows


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
                on_rejected({"not_a_prediction": last.rejected})
        except BaseException as error:
            on_error(error)
            raise

    return (
        parse(records)
        .writeStream.foreachBatch(batch)
        .option("checkpointLocation", f"{config.state}/checkpoints/{LANE}")
        .queryName(f"{config.name}-{LANE}")
        .trigger(processingTime=interval(config.store.trigger))
        .start()
    )
