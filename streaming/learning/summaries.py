"""What the rows of one batch add to each learner: computed beside the rows, one small record a learner and partition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DoubleType, IntegerType, LongType, StringType, StructField, StructType

from streaming.online import metrics
from streaming.online.base import Array, Learner, pack, unpack, valid_rows
from streaming.online.metrics import Tally
from streaming.online.weights import Scored
from streaming.records.predictions import split

#: One label beside one learner's answer; `reason` is set on labels that cannot be learned by anybody.
ROWS: Final = StructType(
    [
        StructField("event_id", StringType()),
        StructField("model", StringType()),
        StructField("prediction", DoubleType()),
        StructField("probability", ArrayType(DoubleType())),
        StructField("features", ArrayType(DoubleType())),
        StructField("y", DoubleType()),
        StructField("reason", StringType()),
        StructField("error", StringType()),
        StructField("label_topic", StringType()),
        StructField("label_partition", IntegerType()),
        StructField("label_offset", LongType()),
        StructField("label_raw_key", BinaryType()),
        StructField("label_raw_value", BinaryType()),
    ]
)

_OUT: Final = (
    "part INT, learner STRING, summary BINARY, tally BINARY, y BINARY, refs BINARY, width INT, "
    "topic STRING, partition INT, offset BIGINT, key BINARY, value BINARY, reason STRING, error STRING"
)
_OUT_ARROW: Final = pa.schema(
    [
        ("part", pa.int32()), ("learner", pa.string()), ("summary", pa.binary()), ("tally", pa.binary()), ("y", pa.binary()), ("refs", pa.binary()), ("width", pa.int32()),
        ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("key", pa.binary()), ("value", pa.binary()),
        ("reason", pa.string()), ("error", pa.string()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Rejected:
    """A label that was not learned: the record it came in, where it stood, and why. An event's own label comes without key and value."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    reason: str
    error: str


@dataclass(frozen=True, eq=False)
class PartitionSummary:
    """What one partition adds to one learner."""

    #: The learner's own summary; None when the learner is frozen or no row was valid.
    summary: Any
    #: Metrics of the answers that were served, where there were any, and the labels of those rows.
    tally: Tally
    y: Array
    #: (n, 4) which labels were learned, in order: event partition and offset, label partition and offset (-1: inline).
    refs: NDArray[np.int64]
    #: The number of features.
    width: int


@dataclass(frozen=True, eq=False)
class Summaries:
    """The result of one pass: parts by learner, in partition order, and the labels that nobody learned."""

    parts: Mapping[str, Sequence[PartitionSummary]]
    rejected: Sequence[Rejected]

    def of(self, learner: str) -> Sequence[PartitionSummary]:
        """The parts of one learner."""
        return self.parts.get(learner, ())


@dataclass(frozen=True, eq=False)
class Job:
    """One learner's part in a pass: its state as bytes (None: it has never seen a row), and whether it learns at all."""

    name: str
    learner: Learner[Any, Any]
    state: bytes | None
    learns: bool


def summarize(rows: DataFrame, jobs: Sequence[Job], *, partitions: int) -> Summaries:
    """One pass over the rows of a batch: an action, run once. `rows` has the columns of ROWS."""
    # The row's place decides the partition, so that a replay puts it into the same one.
    placed = rows.repartition(1) if partitions == 1 else rows.repartition(partitions, F.xxhash64(F.coalesce("event_id", F.lit(""))))
    types = {job.name: job.learner.summary_type for job in jobs}
    records = placed.mapInArrow(_over(jobs), _OUT).collect()
    parts: dict[str, list[PartitionSummary]] = {}
    rejected: dict[tuple[Any, ...], Rejected] = {}
    for row in sorted(records, key=lambda r: r["part"]):
        if row["reason"] is not None:
            label = Rejected(row["topic"], row["partition"], row["offset"], row["key"], row["value"], row["reason"], row["error"])
            rejected.setdefault((label.topic, label.partition, label.offset), label)
            continue
        summary = None if row["summary"] is None else unpack(types[row["learner"]], bytes(row["summary"]))
        refs = np.frombuffer(row["refs"], dtype=np.int64).reshape(-1, 4)
        parts.setdefault(row["learner"], []).append(
            PartitionSummary(summary, unpack(Tally, bytes(row["tally"])), np.frombuffer(row["y"]), refs, row["width"])
        )
    return Summaries(parts, list(rejected.values()))


def _over(
    jobs: Sequence[Job],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        part = context.partitionId() if context is not None else 0
        held = list(batches)
        if not held:
            return
        table = pa.Table.from_batches(held)
        records = _unlearnable(table)
        for job in jobs:
            records += _learnable(table.filter(pa.compute.equal(table["model"], job.name)), job)
        yield pa.RecordBatch.from_pylist([{"part": part, **record} for record in records], schema=_OUT_ARROW)

    return partition


def _unlearnable(table: pa.Table) -> list[dict[str, Any]]:
    """Labels that came with a reason: not decodable, or without a prediction."""
    bad = table.filter(pa.compute.is_valid(table["reason"]))
    return [_reject(bad, i, bad["reason"][i].as_py(), bad["error"][i].as_py()) for i in range(bad.num_rows)]


def _reject(table: pa.Table, i: int, reason: str, error: str) -> dict[str, Any]:
    names = {
        "topic": "label_topic",
        "partition": "label_partition",
        "offset": "label_offset",
        "key": "label_raw_key",
        "value": "label_raw_value",
    }
    record = {name: table[column][i].as_py() for name, column in names.items()}
    if record["topic"] is None:
        # The event carried it: the label stands where the event does.
        record["topic"], record["partition"], record["offset"] = split(table["event_id"][i].as_py())
    return {"reason": reason, "error": error} | record


def _learnable(table: pa.Table, job: Job) -> list[dict[str, Any]]:
    """The records of one learner: its rejected labels, and one with all the rest."""
    if table.num_rows == 0:
        return []
    where = positions(table)
    # The event's place in its topic orders the rows, so that a replay sums in the same order.
    table, where = _ordered(table, where)
    X, y, fits = matrix(table)
    valid, reasons = valid_rows(X, y, labels=job.learner.labels, classes=job.learner.classes)
    valid &= fits
    records = []
    wrong = iter(reasons)
    for i in np.flatnonzero(~valid):
        words = next(wrong, "") if fits[i] else f"features: expected {X.shape[1]} numbers, as the first event of the batch had"
        records.append(_reject(table, int(i), "invalid_label" if words.startswith("label") else "invalid_features", words))
    X, y, where = X[valid], y[valid], where[valid]
    tally, served_y = _served(table.filter(pa.array(valid)), job.learner, y)
    summary = None
    if job.learns and len(y):
        state = job.learner.init(X.shape[1]) if job.state is None else unpack(job.learner.state_type, job.state)
        summary = pack(job.learner.summarize(state, X, y))
    records.append(
        {
            "learner": job.name,
            "summary": summary,
            "tally": pack(tally),
            "y": served_y.tobytes(),
            "refs": where.tobytes(),
            "width": X.shape[1],
        }
    )
    return records


def _ordered(table: pa.Table, where: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
    order = np.lexsort((where[:, 1], where[:, 0]))
    return table.take(pa.array(order)), where[order]


def positions(table: pa.Table) -> NDArray[np.int64]:
    """(n, 4) event partition, event offset, label partition, label offset; -1 for a label that the event carried."""
    event = np.array([split(text)[1:] for text in table["event_id"].to_pylist()], dtype=np.int64).reshape(-1, 2)
    label = [pa.compute.fill_null(table[c].cast(pa.int64()), -1).to_numpy() for c in ("label_partition", "label_offset")]
    return np.ascontiguousarray(np.column_stack([event, *label]))


def matrix(table: pa.Table) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Features (n, d), labels (n,), and which rows have d features; d is that of the first row. Nulls become NaN."""
    features = table["features"].combine_chunks()
    lengths = pa.compute.fill_null(pa.compute.list_value_length(features), 0).to_numpy(zero_copy_only=False)
    d = int(lengths[0])
    fits = lengths == d
    y = table["y"].to_numpy(zero_copy_only=False).astype(float)
    if fits.all():
        flat = features.flatten().to_numpy(zero_copy_only=False).astype(float)
        return flat.reshape(-1, d), y, np.asarray(fits)
    rows = [row if len(row) == d else [np.nan] * d for row in features.to_pylist()]
    return np.asarray(rows, dtype=float).reshape(-1, d), y, np.asarray(fits)


def _served(table: pa.Table, learner: Learner[Any, Any], y: Array) -> tuple[Tally, Array]:
    """Metrics of the answers that were really served; a cold learner served none."""
    answered = pa.compute.is_valid(table["prediction"]).to_numpy(zero_copy_only=False)
    if learner.labels == "none" or not answered.any():
        return metrics.nothing(), np.zeros(0)
    table, y = table.filter(pa.array(answered)), y[answered]
    prediction = table["prediction"].to_numpy(zero_copy_only=False).astype(float)
    probability = None
    if table["probability"].null_count == 0:
        flat = table["probability"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(float)
        probability = flat.reshape(len(y), -1)
    return metrics.tally(learner.labels, y, Scored(prediction, probability)), y
