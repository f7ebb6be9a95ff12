"""What is known of a set of rows: counts that can be added, so that parts in any order give the same as the whole.

A :class:`Statistics` maps (slice, subject) to one vector of float64: counts are whole numbers below 2**53 and exact.

    slice    "" for all rows; "contract#2" for those with the third category of `contract` in the baseline. The number
             and not the value, because a slice is named in alerts and metrics, which must not show an event's values
    subject  "features": the cells of all columns, one behind the other; "score:MODEL": the cells of what it answered;
             "quality:MODEL": see :mod:`streaming.monitor.quality`; "rejected:REASON", "version:MODEL:VERSION": how many
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streaming.monitor.bins import Column

Vector = NDArray[np.float64]
#: (slice, subject)
Key = tuple[str, str]

ALL: Final = ""
FEATURES: Final = "features"
SCORE: Final = "score:"
QUALITY: Final = "quality:"
REJECTED: Final = "rejected:"
VERSION: Final = "version:"

#: The Arrow form: one row for each vector.
ARROW: Final = pa.schema([("slice", pa.string()), ("subject", pa.string()), ("counts", pa.list_(pa.float64()))])


@dataclass(frozen=True, eq=False)
class Statistics:
    """Vectors by (slice, subject); the sum of two is that of both sets of rows."""

    values: Mapping[Key, Vector] = field(default_factory=dict)

    def __add__(self, other: Statistics) -> Statistics:
        both = dict(self.values)
        for key, vector in other.values.items():
            both[key] = both[key] + vector if key in both else vector
        return Statistics(both)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Statistics) or self.values.keys() != other.values.keys():
            return False
        return all(np.array_equal(vector, other.values[key]) for key, vector in self.values.items())

    __hash__ = None  # type: ignore[assignment]

    def get(self, slice_: str, subject: str) -> Vector | None:
        """The vector of one slice and subject; None when nothing was counted."""
        return self.values.get((slice_, subject))

    def slices(self) -> list[str]:
        """The slices that have anything, all rows first."""
        return sorted({slice_ for slice_, _ in self.values})

    def subjects(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names of the subjects: models, or reasons."""
        return sorted({subject.removeprefix(prefix) for _, subject in self.values if subject.startswith(prefix)})

    def to_json(self) -> list[dict[str, Any]]:
        """As plain values."""
        return [{"slice": s, "subject": what, "counts": _plain(v)} for (s, what), v in sorted(self.values.items())]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> Statistics:
        """The inverse of :meth:`to_json`; also of the rows of :meth:`to_arrow`."""
        return cls({(row["slice"], row["subject"]): np.asarray(row["counts"], dtype=np.float64) for row in rows})

    def to_arrow(self) -> pa.Table:
        """As a table of :data:`ARROW`."""
        return pa.Table.from_pylist(self.to_json(), schema=ARROW)


def merged(parts: Iterable[Statistics]) -> Statistics:
    """The sum of all parts."""
    return reduce(Statistics.__add__, parts, Statistics())


def _plain(vector: Vector) -> list[float]:
    return [int(x) if x == int(x) else float(x) for x in vector.tolist()]


@dataclass(frozen=True)
class Layout:
    """The columns that are watched, in the order in which their cells stand in a vector, and which of them make slices."""

    columns: tuple[Column, ...]
    slices: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Cells of all columns together."""
        return sum(column.width for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    def parts(self, vector: Vector) -> dict[str, Vector]:
        """A vector of all columns, cut into those of each."""
        ends = np.cumsum([column.width for column in self.columns])[:-1]
        return dict(zip((column.name for column in self.columns), np.split(vector, ends), strict=True))

    def slice_names(self) -> list[str]:
        """Every slice there can be, all rows first."""
        return [ALL, *(slice_ for name in self.slices for slice_ in self.slices_of(name))]

    def slices_of(self, name: str) -> list[str]:
        """The slices that one field makes."""
        return [f"{name}#{i}" for i in range(len(self.column(name).categories))]

    def memberships(self, table: pa.Table) -> list[tuple[list[str], NDArray[np.int64]]]:
        """For all rows, and for each field that makes slices: the names of its slices, and the number of each row's own (-1: none)."""
        every = ([ALL], np.zeros(table.num_rows, dtype=np.int64))
        return [every, *(self._membership(name, array(table, name)) for name in self.slices)]

    def _membership(self, name: str, values: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
        return self.slices_of(name), self.column(name).codes(values)


def array(table: pa.Table, name: str) -> pa.Array:
    """A column as one piece; nulls where the table has no such column."""
    if name not in table.column_names:
        return pa.nulls(table.num_rows)
    column = table.column(name).combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def of_rows(table: pa.Table, layout: Layout) -> Statistics:
    """The statistics of all columns of the layout, for all rows and for each slice."""
    memberships = [(names, groups) for names, groups in layout.memberships(table) if len(names)]
    counted: list[list[Vector]] = [[] for _ in memberships]
    for column in layout.columns:
        cell, side = column.cells(array(table, column.name))  # finding the cells is what costs
        for counts, (names, groups) in zip(counted, memberships, strict=True):
            counts.append(column.tally(cell, side, groups, len(names)))
    return merged(_by_slice(names, np.hstack(counts), FEATURES) for counts, (names, _) in zip(counted, memberships, strict=True) if counts)


def of_scores(scores: pa.Array, model: Column, memberships: Sequence[tuple[list[str], NDArray[np.int64]]]) -> Statistics:
    """The statistics of what a model answered; `model` has its name and its cells."""
    return merged(_by_slice(names, model.count(scores, groups, len(names)), f"{SCORE}{model.name}") for names, groups in memberships)


def _by_slice(names: Sequence[str], counts: Vector, subject: str) -> Statistics:
    """Rows of a matrix under the names of their slices; a slice without rows is left out."""
    return Statistics({(name, subject): counts[i] for i, name in enumerate(names) if counts[i].any()})


def split(table: pa.Table, by: NDArray[np.int64], of: Callable[[pa.Table], Statistics]) -> dict[int, Statistics]:
    """The statistics `of` the rows of each window; `by` has the number of each row's window."""
    windows = np.unique(by).tolist()
    return {window: of(table if len(windows) == 1 else table.filter(pa.array(by == window))) for window in windows}
