"""Writes a frame partition by partition from the executors, and brings each partition's outcome home as data.

The type of an exception raised in a Python worker is lost on its way through the JVM, and with it the answer to the one
question that matters: can a restart help? So a partition answers with a row, and the driver raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame

from streaming.errors import StoreError, StoreUnavailable
from streaming.secrets import redact
from streaming.stores.base import storable

_OUTCOME: Final = "written BIGINT, kind STRING, error STRING"
_ARROW: Final = pa.schema([("written", pa.int64()), ("kind", pa.string()), ("error", pa.string())])


def write_partitions(predictions: DataFrame, write: Callable[[Iterator[pa.RecordBatch]], int]) -> int:
    """Call `write` once for each partition that has rows; returns the number of rows given to it, over all partitions.

    `write` runs on the executors, so it must be picklable with all it holds. StoreError and StoreUnavailable that it
    raises are raised here again (StoreError first: no replay can cure it); any other exception fails the Spark job.
    """

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        filled = (batch for batch in batches if batch.num_rows)
        first = next(filled, None)
        if first is None:
            return
        outcome: tuple[int, str | None, str | None]
        try:
            outcome = (write(_chain(first, filled)), None, None)
        except (StoreError, StoreUnavailable) as error:
            # Spark feeds the worker from a thread that must not be left hanging on a full pipe.
            for _ in filled:
                pass
            outcome = (0, type(error).__name__, redact(str(error)))
        yield pa.RecordBatch.from_arrays(
            [pa.array([value], type=field.type) for value, field in zip(outcome, _ARROW, strict=True)], schema=_ARROW
        )

    outcomes = storable(predictions).mapInArrow(task, _OUTCOME).collect()
    for kind in (StoreError, StoreUnavailable):
        failed = [row for row in outcomes if row["kind"] == kind.__name__]
        if failed:
            # The executors do not know the driver's secrets: mask once more before anybody reads it.
            raise kind(f"{redact(failed[0]['error'])} ({len(failed)} of {len(outcomes)} partitions failed)")
    return sum(row["written"] for row in outcomes)


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
