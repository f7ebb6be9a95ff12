"""What the newest window says, and which was the worst: the history table in words. Pure; values are those of the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streaming.monitor.record import iso, standing_alone

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PastWindow:
    """One window, from the rows of the history table."""

    start: int
    end: int
    rows: tuple[Row, ...]

    def figure(self, kind: str, statistic: str, *, subject: str | None = None, slice_: str = "") -> Row | None:
        """One figure; None when the window does not have it. `subject` None: the first there is."""
        return next(self._all(kind, statistic, subject, slice_), None)

    def value(self, kind: str, statistic: str, *, subject: str | None = None) -> float | None:
        """The value of a figure of all rows."""
        row = self.figure(kind, statistic, subject=subject)
        return None if row is None else float(row["value"])

    def _all(self, kind: str, statistic: str, subject: str | None, slice_: str) -> Iterator[Row]:
        for row in self.rows:
            if (row["kind"], row["statistic"], row["slice"]) == (kind, statistic, slice_) and subject in (None, row["subject"]):
                yield row

    @property
    def judged(self) -> bool:
        """It had rows enough."""
        return bool(self.value("window", "judged"))

    @property
    def drifted(self) -> list[Row]:
        """The figures that drifted, the greatest excess first."""
        return sorted((row for row in self.rows if row["drifted"]), key=lambda row: -excess(row))

    @property
    def worst(self) -> Row | None:
        """The figure with the greatest excess among those that drifted and stand alone; else among all that have a threshold."""
        judged = [row for row in self.rows if row["threshold"]]
        return max(by_themselves(self.drifted) or judged, key=excess, default=None)

    def carriers(self) -> list[tuple[str, float]]:
        """The columns by their share of the prediction's shift, greatest first."""
        return [(row["subject"], float(row["value"])) for row in self.rows if row["kind"] == "share"]


def excess(row: Row) -> float:
    """How many times the threshold."""
    return float(row["value"]) / float(row["threshold"]) if row["threshold"] else 0.0


def windows(table: pa.Table) -> list[PastWindow]:
    """The windows of a history table, oldest first."""
    plain = table.set_column(0, "window_start", table.column("window_start").cast(pa.int64()))
    plain = plain.set_column(1, "window_end", plain.column("window_end").cast(pa.int64()))
    by_start: dict[int, list[Row]] = {}
    for row in plain.to_pylist():
        by_start.setdefault(row["window_start"], []).append(row)
    return [PastWindow(start, rows[0]["window_end"], tuple(rows)) for start, rows in sorted(by_start.items())]


def worst(past: Sequence[PastWindow]) -> PastWindow | None:
    """The window of the figure that drifted farthest, of equal ones the newest; None when nothing ever drifted."""
    drifted = [seen for seen in past if seen.drifted]
    return max(drifted, key=lambda seen: (excess(seen.drifted[0]), seen.start), default=None)


def by_themselves(drifted: Sequence[Row]) -> list[Row]:
    """What is to be named of it: without the slices of what drifted as a whole, see :func:`streaming.monitor.record.standing_alone`."""
    alone = standing_alone([(f"{row['kind']} {row['subject']}", row["statistic"], row["slice"], row["value"]) for row in drifted])
    return [row for row, named in zip(drifted, alone, strict=True) if named]


def of_what(row: Row) -> str:
    """What a figure is about, with the slice."""
    about = {"quality": "quality of ", "prediction": "prediction of ", "rejected": "rejected events", "concept": "concept of "}.get(
        row["kind"], ""
    )
    where = f" where {row['slice_value'] or row['slice']}" if row["slice"] else ""
    return f"{about}{row['subject']}{where}"


def started(table: pa.Table) -> str:
    """The time of the newest window."""
    newest = pc.max(table.column("window_start").cast(pa.int64())).as_py()
    return "never" if newest is None else iso(newest)
