"""The history: files for each revision of a window, and for its alerts, in the state folder below `monitor`.

    history/START-BATCH.parquet   its figures, rows of streaming.monitor.record.MEASURES
    counts/START-BATCH.parquet    its sums, from which everything can be computed anew
    alerts/BATCH.json             the alerts that a batch raised or ended, see streaming.monitor.alerts

START is the window's start in milliseconds since 1970, BATCH the number of the batch that wrote it, counted on when the lane's checkpoint begins anew. A batch that is repeated
after a crash writes the same files again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streaming.monitor.record import MEASURES, iso
from streaming.monitor.statistics import Statistics

HISTORY: Final = "history"
COUNTS: Final = "counts"
ALERTS: Final = "alerts"


class HistoryFolder(Protocol):
    """What is needed of a folder, see streaming.runtime.files."""

    def names(self) -> list[str]:
        """The names of its files, sorted."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file, whatever was there."""

    def delete(self, name: str) -> None:
        """Remove a file; does nothing when there is none."""


@dataclass(frozen=True)
class History:
    """The published windows of one job: two folders; `told` has the alerts."""

    figures: HistoryFolder
    counts: HistoryFolder
    told: HistoryFolder | None = None

    def add(self, start: int, batch: int, figures: pa.Table, statistics: Statistics) -> None:
        """Write a revision. The sums first: a window that is in the table can always be added to."""
        self.counts.replace(_file(start, batch), _bytes(statistics.to_arrow()))
        self.figures.replace(_file(start, batch), _bytes(figures))

    def add_alerts(self, batch: int, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Write down what a batch raised or ended."""
        if alerts and self.told is not None:
            self.told.replace(f"{batch:010d}.json", json.dumps(list(alerts)).encode())

    def alerts(self, *, last: int = 0) -> list[dict[str, Any]]:
        """All alerts, oldest first; one that is over stands there twice. `last`: of the newest so many batches that told any; 0: of all."""
        if self.told is None:
            return []
        contents = [self.told.read(name) for name in sorted(self.told.names())[-last:] if name.endswith(".json")]
        return [alert for content in contents if content is not None for alert in json.loads(content)]

    def sums(self, start: int, *, before: int) -> Statistics | None:
        """The sums of a window as the newest batch before that number left them; None when it was not published."""
        made = [batch for s, batch in _entries(self.counts) if s == start and batch < before]
        content = self.counts.read(_file(start, max(made))) if made else None
        return None if content is None else Statistics.from_json(pq.read_table(io.BytesIO(content)).to_pylist())

    def newest_sums(self, start: int) -> Statistics | None:
        """The sums of the newest revision."""
        return self.sums(start, before=1 << 62)

    def newest_revision(self) -> int:
        """The greatest number of a revision; -1 when nothing was published."""
        return max((batch for _, batch in _entries(self.counts)), default=-1)

    def starts(self) -> list[int]:
        """The starts of all windows, oldest first."""
        return sorted({start for start, _ in _entries(self.figures)})

    def table(self, *, last: int | None = None) -> pa.Table:
        """The figures of the newest `last` windows (None: of all), each in its newest revision, oldest first."""
        newest: dict[int, int] = {}
        for start, batch in _entries(self.figures):
            newest[start] = max(batch, newest.get(start, -1))
        chosen = sorted(newest.items())[-last if last is not None else None :]
        contents = [self.figures.read(_file(start, batch)) for start, batch in chosen]
        tables = [pq.read_table(io.BytesIO(content)) for content in contents if content is not None]
        return pa.concat_tables([MEASURES.empty_table(), *tables])

    def tidy(self, *, before: int) -> None:
        """Remove windows that began before that time, and what was told about windows that ended before it."""
        for folder in (self.figures, self.counts):
            for start, batch in _entries(folder):
                if start < before:
                    folder.delete(_file(start, batch))
        if self.told is None:
            return
        for name in sorted(self.told.names()):
            if any(alert["window_end"] >= iso(before) for alert in json.loads(self.told.read(name) or b"[]")):
                break  # the later ones are younger
            self.told.delete(name)


def starts_in(table: pa.Table) -> list[int]:
    """The starts of the windows in a table of figures, in milliseconds since 1970."""
    return sorted(pc.unique(table.column("window_start").cast(pa.int64())).to_pylist())


def _entries(folder: HistoryFolder) -> list[tuple[int, int]]:
    """(start, batch) of each file."""
    parts = (name.removesuffix(".parquet").rsplit("-", 1) for name in folder.names() if name.endswith(".parquet"))
    return [(int(start), int(batch)) for start, batch in parts]


def _file(start: int, batch: int) -> str:
    return f"{start:013d}-{batch:010d}.parquet"


def _bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
