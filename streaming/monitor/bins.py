"""Where a value is counted: a column's bins or categories, chosen once from the baseline and never moved again.

Because the cells are fixed, counts of any two sets of rows can be added, and the sum is exactly the count of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Bins of a number, of equal share in the baseline; a value that would make one greater has a bin of its own. No other bin has more
#: than 1/32 of the baseline's rows (and one row), and by no more is a KS distance seen too small.
BINS: Final = 32
#: Categories of a text column that are counted by name; a column with more is an identifier rather than a category.
CATEGORIES: Final = 100
#: Bins of a probability, all of one width in log-odds (a seventh): fine enough for the area under the ROC curve, and near 0
#: and 1 too, where a confident model says all it says; .5 is a border.
PROBABILITY_BINS: Final = 100
PROBABILITY_EDGES: Final = tuple((1.0 / (1.0 + np.exp(-np.linspace(-7.0, 7.0, PROBABILITY_BINS - 1)))).tolist())

#: Cells behind a column's own: no value; below and above all that the baseline has seen.
NULL, BELOW, ABOVE = 0, 1, 2
_TAIL: Final = 3

Kind = Literal["number", "category", "other"]


@dataclass(frozen=True)
class Column:
    """The cells of one column. `number`: bin i holds edges[i-1] < x <= edges[i]. `category`: one cell each, and one for all others."""

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    categories: tuple[str, ...] = ()
    #: Every category of the baseline is named here: any other is one that the baseline has never seen.
    complete: bool = True

    @property
    def bins(self) -> int:
        """Cells of values, without the tail."""
        return {"number": len(self.edges) + 1, "category": len(self.categories) + 1, "other": 1}[self.kind]

    @property
    def width(self) -> int:
        """All cells: those of values, then null, below and above."""
        return self.bins + _TAIL

    def count(self, values: pa.Array, groups: NDArray[np.int64], n_groups: int) -> NDArray[np.float64]:
        """Counts by (group, cell), shape (n_groups, width). A group of -1 is left out."""
        return self.tally(*self.cells(values), groups, n_groups)

    def tally(self, cell: NDArray[np.int64], side: NDArray[np.int8], groups: NDArray[np.int64], n_groups: int) -> NDArray[np.float64]:
        """:meth:`count` of values whose cells are known: several groupings need them once."""
        kept = groups >= 0
        counts = np.bincount(groups[kept] * self.width + cell[kept], minlength=n_groups * self.width).reshape(n_groups, self.width)
        for where, cells in ((BELOW, side < 0), (ABOVE, side > 0)):
            if cells.any():
                counts[:, self.bins + where] = np.bincount(groups[kept & cells], minlength=n_groups)
        return counts.astype(np.float64)

    def cells(self, values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """The cell of each value, and -1 or 1 where it is outside the baseline's range."""
        missing = self.bins + NULL
        if self.kind == "number":
            x = numbers(values)
            cell = np.searchsorted(np.asarray(self.edges), x, side="left")
            side = (x > self.high).astype(np.int8) - (x < self.low).astype(np.int8)
            return np.where(np.isnan(x), missing, cell), side
        inside = np.zeros(len(values), dtype=np.int8)
        if self.kind == "other":
            return np.where(pc.is_null(values).to_numpy(zero_copy_only=False), missing, 0), inside
        text = texts(values)
        cell = pc.fill_null(pc.index_in(text, pa.array(self.categories, pa.string())), len(self.categories)).to_numpy().astype(np.int64)
        return np.where(pc.is_null(text).to_numpy(zero_copy_only=False), missing, cell), inside

    def codes(self, values: pa.Array) -> NDArray[np.int64]:
        """The number of each value's category, -1 for null and for what is not named."""
        places = pc.index_in(texts(values), pa.array(self.categories, pa.string()), skip_nulls=True)
        return np.asarray(pc.fill_null(places, -1).to_numpy().astype(np.int64))

    def to_json(self) -> dict[str, Any]:
        """As plain values; infinite ends are left out."""
        described: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "number":
            ends = {"low": self.low, "high": self.high}
            described |= {"edges": list(self.edges), **{k: v for k, v in ends.items() if np.isfinite(v)}}
        if self.kind == "category":
            described |= {"categories": list(self.categories), "complete": self.complete}
        return described

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Column:
        """The inverse of :meth:`to_json`."""
        lists = {k: tuple(values[k]) for k in ("edges", "categories") if k in values}
        return cls(**{**values, **lists})


def column(name: str, values: pa.Array, *, most: int = CATEGORIES) -> Column:
    """The cells for a column, from the values that the baseline has of it."""
    kind = kind_of(values.type)
    if kind == "number":
        return _number(name, numbers(values))
    return _category(name, texts(values), most) if kind == "category" else Column(name, "other")


def probability(name: str) -> Column:
    """The cells of a probability: a hundred of equal width in log-odds."""
    return Column(name, "number", PROBABILITY_EDGES, low=0.0, high=1.0)


def kind_of(kind: pa.DataType) -> Kind:
    """How a column of this Arrow type is watched; what is neither number nor text is watched for nulls only."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return "number"
    if pa.types.is_dictionary(kind):
        return kind_of(kind.value_type)
    return "category" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "other"


def numbers(values: pa.Array) -> NDArray[np.float64]:
    """The values as float64, NaN where there is none."""
    return np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def texts(values: pa.Array) -> pa.Array:
    """The values as plain text."""
    return values if pa.types.is_string(values.type) else pc.cast(values, pa.string())


def texts_of(classes: NDArray[np.float64]) -> list[str]:
    """Predicted classes as the text that is counted."""
    return [f"{x:g}" for x in classes]


def _number(name: str, x: NDArray[np.float64]) -> Column:
    known = np.sort(x[np.isfinite(x)])
    if not len(known):
        return Column(name, "number")
    distinct = np.unique(known)
    if len(distinct) <= BINS:
        borders = heavy = distinct
    else:
        # Quantiles that are values of the data: a border never cuts equal values apart.
        borders = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="lower"))
        ends = np.unique(np.append(borders, known[-1]))
        rows = np.diff(np.searchsorted(known, ends, side="right"), prepend=0)
        heavy, borders = ends[rows > len(known) / BINS + 1], borders[borders < known[-1]]
    # A value that many rows have is a cell of its own, with a border just below it: rows that move from it to just beside it, or to
    # where the baseline has none (0 and 1 become 0 and 0.01), must not stay in its cell.
    edges = np.unique(np.concatenate([borders, heavy, np.nextafter(heavy, -np.inf)]))
    return Column(name, "number", tuple(map(float, edges)), low=float(known[0]), high=float(known[-1]))


def _category(name: str, text: pa.Array, most: int) -> Column:
    counted = pc.value_counts(text.drop_null())
    by_count = sorted((-int(row["counts"]), str(row["values"])) for row in counted.to_pylist())
    return Column(name, "category", categories=tuple(value for _, value in by_count[:most]), complete=len(by_count) <= most)
