"""Predictions in the memory of this process: a store for tests of your own, and the contract of a store in its fewest lines.

The configuration does not know it, since nothing of it outlives the process. What decides between two rows is a function,
so a test can give it a wrong one and see that it is caught: `MemoryStore(newer=lambda new, held: True)` lets the last write win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from pyspark.sql import DataFrame

from streaming.records.predictions import NEWEST
from streaming.stores.base import python_rows, storable

Row = Mapping[str, object]


def newer(new: Row, held: Row) -> bool:
    """Newest wins: greater in the columns of NEWEST, compared from left to right; equal in all of them is no news."""
    return _order(new) > _order(held)


def _order(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in NEWEST)


@dataclass(frozen=True)
class MemoryStore:
    """A dictionary of (key, model) -> row; safe for several threads."""

    newer: Callable[[Row, Row], bool] = newer
    rows: dict[tuple[object, object], dict[str, object]] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def prepare(self) -> None:
        """Nothing to create; what is there stays."""

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Keep each row that is newer than what stands."""
        incoming = python_rows(storable(predictions).toArrow())
        with self._lock:
            for row in incoming:
                self._keep(row)

    def get(self, key: str) -> list[dict[str, object]]:
        """The rows of one entity, models in name order."""
        with self._lock:
            return sorted((dict(row) for (own, _), row in self.rows.items() if own == key), key=lambda row: str(row["model"]))

    def count(self) -> int:
        """The number of rows that stand."""
        with self._lock:
            return len(self.rows)

    def _keep(self, row: dict[str, object]) -> None:
        name = (row["key"], row["model"])
        if name not in self.rows or self.newer(row, self.rows[name]):
            self.rows[name] = row
