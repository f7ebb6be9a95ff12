"""The LEARN lane: labels joined with the features as they were scored, and each learner updated by them, each label once.

The order of the steps in :func:`learn_batch` is the guarantee: a crash before step 4 repeats the batch from the same
rows and the same states; after it the repeat finds the state of this batch and changes nothing.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from streaming.config.load import Config
from streaming.config.values import interval
from streaming.kafka import read, write
from streaming.learning import origin
from streaming.learning.labels import Inputs, late, pairs
from streaming.learning.publish import Publisher
from streaming.learning.state_log import Ends
from streaming.learning.summaries import Job, summarize
from streaming.learning.teach import Learned, Rejected, teach
from streaming.records import rejected as refusals
from streaming.runtime import files
from streaming.runtime.files import Folder

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
    source = F.struct("topic", "partition", "offset", "timestamp", "raw_key", "raw_value", "headers")
    record = refusals.record(config, source=source, problem=F.struct("reason", "error"), lane=LANE)
    write.batch(_as_they_stand(refused, rejected, config).select(record.alias("record")).select("record.*"), config.kafka)


def _as_they_stand(refused: DataFrame, rejected: Sequence[Rejected], config: Config) -> DataFrame:
    """The rejected labels with the key, value, headers and timestamp of their records, read again: the state of the join has only some of them.

    What the broker no longer has is left as the state has it; of an event that carried its label nothing is left then but its place.
    """
    places: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for label in rejected:
        places[label.topic][label.partition].add(label.offset)
    again = [read.around(refused.sparkSession, config.kafka, topic, offsets) for topic, offsets in places.items()]
    position = ("topic", "partition", "offset")
    original = reduce(DataFrame.unionByName, again).select(
        *position, "timestamp", "headers", F.col("key").alias("k"), F.col("value").alias("v")
    )
    both = refused.join(original, list(position), "left")
    return both.withColumns({"raw_key": F.coalesce("k", "raw_key"), "raw_value": F.coalesce("v", "raw_value")})


_REJECTED: Final = "topic STRING, partition INT, offset BIGINT, raw_key BINARY, raw_value BINARY, reason STRING, error STRING"


def late_before(offsets: Folder, n: int) -> int:
    """The watermark, in milliseconds since 1970, at which batch `n` drops a record for coming late: Spark compares with that of the batch before."""
    written = (offsets.read(str(n - 1)) or b"").splitlines()
    return int(json.loads(written[1])["batchWatermarkMs"]) if len(written) > 1 else 0


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
    assert config.labels is not None
    delay = config.labels.max_delay
    checkpoint = files.folder(f"{config.state}/checkpoints/{LANE}", lambda: inputs.predictions.sparkSession)
    offsets = checkpoint.below("offsets")

    def batch(rows: DataFrame, n: int) -> None:
        try:
            if query := rows.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId"):
                publisher.settle(query)
            ends = origin.ends(checkpoint, n)
            rows = late(rows, late_before(offsets, n), delay)
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
