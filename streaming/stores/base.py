"""What every operational store promises: the newest prediction of each (key, model) stands, whatever was written when.

Beside the promise stand the few pure functions that the stores share, so that a time or a double means the same in each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from streaming.records.predictions import STORED

#: Python datetimes and four-digit years end here, in microseconds since 1970: 0001-01-01 and 9999-12-31T23:59:59.999999.
EARLIEST_US: Final = -62_135_596_800_000_000
LATEST_US: Final = 253_402_300_799_999_999

#: How long one look-up may take, in seconds: somebody waits for it. Writes may take longer.
LOOK_UP_S: Final = 5.0


@runtime_checkable
class Store(Protocol):
    """An operational store of predictions. Safe to call again with the same rows: a repeat or a reorder changes nothing."""

    def prepare(self) -> None:
        """Create the table if it is missing; if it is there, check its columns and types. Never alters anything.

        Raises StoreError (wrong table, refused credentials) or StoreUnavailable (does not answer).
        """

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Write rows of :data:`streaming.records.predictions.STORED`, at most one per (key, model); return when they are durable.

        A row is kept only if it is newer (:data:`streaming.records.predictions.NEWEST`) than what stands. `batch_id` is the
        micro-batch number of the store lane, for stores that keep transaction numbers.
        Raises StoreError or StoreUnavailable.
        """

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity, one per model, as plain Python values with the fields of STORED, models in name order.

        An unknown key gives an empty list. Timestamps come as timezone-aware UTC datetimes. A server that does not answer
        within some LOOK_UP_S is StoreUnavailable.
        """

    def count(self) -> int:
        """The number of rows that stand."""


def storable(predictions: DataFrame) -> DataFrame:
    """The columns of STORED in their order; a time outside the years 1 to 9999 becomes the first or last microsecond inside.

    Spark's timestamps reach the year 294247, Python's datetimes and the text the stores sort by do not. One event with
    such a time (microseconds taken for milliseconds) must not stop the lane for ever, so it is moved, not refused.
    """
    columns = []
    for field in STORED.fields:
        column = F.col(field.name)
        if isinstance(field.dataType, TimestampType):
            column = F.greatest(F.timestamp_micros(F.lit(EARLIEST_US)), F.least(F.timestamp_micros(F.lit(LATEST_US)), column))
        columns.append(column.cast(field.dataType).alias(field.name))
    return predictions.select(*columns)


def iso_column(times: pa.Array) -> pa.Array:
    """Timestamps as text of fixed width that sorts like the times: "2024-01-31T12:00:00.000000Z", UTC, years 1 to 9999."""
    wall = pc.cast(pc.cast(times, pa.timestamp("us", tz="UTC")).cast(pa.int64()).cast(pa.timestamp("us")), pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(wall, " ", "T", max_replacements=1), pa.scalar("Z"), "")


def time_of(text: str) -> datetime:
    """The time that :func:`iso_column` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)


def doubles_text(values: list[float] | None) -> str | None:
    """An array of doubles as JSON text that gives back the same bits. Infinite and not-a-number as Python's json writes them."""
    if values is None:
        return None
    # A list of doubles looks the same in Python and in JSON, four times faster; but for nan and inf, the only ones with an "n".
    text = repr(values)
    return json.dumps(values) if "n" in text else text


def doubles_of(text: str | None) -> list[float] | None:
    """The array that :func:`doubles_text` wrote."""
    return None if text is None else [float(value) for value in json.loads(text)]


def python_rows(table: pa.Table) -> list[dict[str, object]]:
    """The rows of an Arrow table with the fields of STORED as :meth:`Store.get` gives them, models in name order."""
    columns: dict[str, Any] = {}
    for field in STORED.fields:
        column = table.column(field.name)
        columns[field.name] = column.cast(pa.timestamp("us", tz="UTC")) if isinstance(field.dataType, TimestampType) else column
    rows: list[dict[str, object]] = pa.table(columns).to_pylist()
    return sorted(rows, key=lambda row: str(row["model"]))


def mismatches(expected: Mapping[str, Iterable[str]], got: Mapping[str, str]) -> list[str]:
    """One line per column that is missing or has a wrong type. `expected` gives the accepted types, the best one first."""
    lines = []
    for name, types in expected.items():
        accepted = list(types)
        if name not in got:
            lines.append(f"column {name}: missing, expected {accepted[0]}")
        elif got[name] not in accepted:
            lines.append(f"column {name}: got {got[name]}, expected {' or '.join(accepted)}")
    return lines
