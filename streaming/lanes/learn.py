"""The LEARN lane: labels joined with the features as they were scored, and each learner updated by them, each label once.

The order of the steps in :func:`learn_batch` is the guarantee: a crash before step 4 repeats the batch from the same
rows and the same states; after it the repeat finds the state of this batch and changes nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import write
from streaming.learning import origin
from streaming.learning.labels import Inputs, pairs
from streaming.learning.publish import Publisher
from streaming.learning.state_log import Ends
from streaming.learning.summaries import Job, summarize
from streaming.learning.teach import Learned, Rejected, teach
from streaming.records import rejected as refusals
from streaming.runtime import files

log = logging.getLogger(__name__)

LANE: Final = "learn"


def learn_batch(
    rows: DataFrame,
    n: int,
    *,
    publisher: Publisher,
    config: Config,
    at: Callable[[str], None],
    ends: Ends | None = None,
    on_rejected: Callable[[Mapping[str, int]], None] = lambda counts: None,
) -> list[Learned]:
    """Carry micro-batch `n` into every learner and publish the new weights; exactly once, however often it is called.

    `ends`: how far the batch reads, where the checkpoint says it. `at` is told the name of each step as it ends; crash tests stop the process there. `on_rejected` gets the number of
    rejected labels by reason.
    """
    learners = publisher.learners
    # Step 1. What people asked for comes first; then the states to learn from are looked up by number. A missing one
    # is an error, never a fresh start.
    publisher.carry_out()
    before = {learning.name: learning.before(learning.number(n)) for learning in learners}
    at("looked up")
    # Step 2. One pass over the rows, beside the rows. Learns nothing yet.
    jobs = [Job(own.name, own.learner, before[own.name].packed(own), before[own.name].learns) for own in learners]
    summaries = summarize(rows, jobs, partitions=config.learn.partitions)
    at("summarized")
    # Step 3. Labels nobody can learn from. A crash after this writes them again: same bytes, same headers.
    _reject(rows, summaries.rejected, config)
    on_rejected(Counter(label.reason for label in summaries.rejected))
    at("rejected")
    # Step 4. The new states, first writer wins: from here on a repeat of the batch changes nothing.
    learned = []
    for learning in learners:
        number, parts = learning.number(n), summaries.of(learning.name)
        learned.append(teach(learning, number, before[learning.name], parts, ends=ends))
        at(f"added {learning.name}")
    # Step 5. The score lane sees the new weights. Published again, they are the same. A command that was confirmed since
    # step 1 goes before them.
    snapshots = [result.snapshot for result in learned]
    publisher.publish(snapshots)
    at("published")
    # Step 6. Housekeeping, which may be left undone: it is done again at the next batch.
    publisher.tidy(snapshots)
    at("tidied")
    return learned


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
    publisher: Publisher,
    on_error: Callable[[BaseException], None],
    on_learned: Callable[[Learned], None] = lambda learned: None,
    on_rejected: Callable[[Mapping[str, int]], None] = lambda counts: None,
    at: Callable[[str], None] = lambda step: None,
) -> StreamingQuery:
    """Start the lane's query. `on_error` gets the original exception of a failed batch, `on_learned` each learner's outcome."""

    checkpoint = files.folder(f"{config.state}/checkpoints/{LANE}", lambda: inputs.predictions.sparkSession)

    def batch(rows: DataFrame, n: int) -> None:
        try:
            if query := rows.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId"):
                publisher.settle(query)
            ends = origin.ends(checkpoint, n)
            for learned in learn_batch(rows, n, publisher=publisher, config=config, at=at, ends=ends, on_rejected=on_rejected):
                log.info("%s", learned.line())
                on_learned(learned)
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
