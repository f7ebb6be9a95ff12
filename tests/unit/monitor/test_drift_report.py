"""The page: whole in one file, nothing from elsewhere, and whatever an event says stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from streaming.monitor import charts, overview, report
from streaming.monitor.baseline import Baseline, of_table
from streaming.monitor.bins import column
from streaming.monitor.record import Settings, chance, of_window
from streaming.monitor.statistics import of_rows
from streaming.monitor.windows import Published, Watch, Watched

HOSTILE = "<script>alert('x')</script>&\"'"
N = 600
RNG = np.random.default_rng(1)


def table(shift: float) -> pa.Table:
    return pa.table(
        {"amount": RNG.normal(shift, 1, N), "plan": RNG.choice(["basic", HOSTILE], N), "flag": pa.array([None, "y"] * (N // 2))}
    )


BASE: Baseline = of_table(table(0), columns=["amount", "plan", "flag"], slices=["plan"], source=f"the {HOSTILE} table")
WATCH = Watch(BASE, (Watched("m", "number", BASE.layout.columns[0]),), window=60_000)


def source(*shifts: float, alerts: int = 1) -> report.Source:
    named = {s: BASE.slice_value(s) for s in BASE.layout.slice_names() if s}
    sums = {i * 60_000: of_rows(table(shift), BASE.layout) for i, shift in enumerate(shifts)}
    windows = [Published(start, s, s, start, True, False) for start, s in sums.items()]
    rows = pa.concat_tables([of_window(w, 0, WATCH, settings=Settings()).to_arrow(named) for w in windows])
    alert = {
        "window_end": "2026-01-01T00:00:00Z",
        "state": "raised",
        "severity": "critical",
        "says": HOSTILE,
        "since": "2026",
        "model_version": HOSTILE,
    }
    return report.Source(HOSTILE, HOSTILE, overview.windows(rows), [alert] * alerts, BASE, sums)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attrs if k in {"src", "href", "xlink:href", "action"} or k.startswith("on")]


def read(source: report.Source) -> tuple[str, Reader]:
    text = report.page(source, at=datetime(2026, 1, 1, tzinfo=UTC))
    reader = Reader()
    reader.feed(text)
    return text, reader


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    text, reader = read(source(0.0, 0.0, 3.0))
    assert reader.links == []
    assert not {"script", "link", "iframe", "img", "object"} & set(reader.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert {"svg", "table", "figure"} <= set(reader.tags)
    assert "@media print" in text


def test_it_shows_the_newest_window_that_drifted_and_names_the_column() -> None:
    text, _ = read(source(0.0, 3.0, 0.0, 0.0))
    assert "1 of 4 windows drifted" in text
    assert "Then and now: the window of 1970-01-01 00:01" in text
    assert re.search(r"amount[^<]*<span class=\"bad\">drifted", text)


def test_a_chance_too_small_for_a_number_is_never_none_at_all() -> None:
    assert [chance(p) for p in (0.04, 1e-9, 1e-300, 1e-301, 0.0)] == ["0.04", "1e-09", "1e-300", "< 1e-300", "< 1e-300"]
    whole = source(3.0)
    (window,) = whole.windows
    sure = replace(window, rows=tuple({**row, "p": 0.0} if row["drifted"] else row for row in window.rows))
    text, _ = read(replace(whole, windows=[sure]))
    assert "<td class=n>&lt; 1e-300</td>" in text
    assert "<td class=n>0</td>" not in text


def test_values_with_a_cell_of_their_own_are_shown_as_values() -> None:
    few = column("few", pa.array([0.0, 1.0]))
    assert report._joined(few, np.array([0.0, 2, 0, 2, 0]), np.array([0.0, 1, 1, 1, 1]))[0] == ["0", "< 1", "1", "> 1"]
    values = pa.array([*np.arange(100.0), *[100.0] * 50])
    capped = column("capped", values)
    shares = capped.count(values, np.zeros(len(values), np.int64), 1)[0][: capped.bins] / len(values)
    names, groups = report._joined(capped, shares, shares)
    assert names[-1] == "100"
    assert max(shares[group].sum() for group in groups[:-1]) <= 2 / report._BARS
    assert [i for group in groups for i in group] == np.flatnonzero(shares).tolist()


def test_nothing_drifted_and_no_alert() -> None:
    text, _ = read(source(0.0, alerts=0))
    assert "Nothing drifted in any window." in text
    assert "none" in text


def test_without_baseline_or_sums_it_says_so() -> None:
    whole = source(3.0)
    text, _ = read(report.Source("s", "m", whole.windows, [], None, {}))
    assert "are gone" in text


@pytest.mark.parametrize("values", [[], [None, None], [0.5], [0.0, 0.0, 0.0], [None, 1e-9, None, 5.0]])
def test_a_curve_of_anything_is_drawn(values: list[float | None]) -> None:
    drawn = charts.lines([charts.Line("a<b", values, values, values)], labels=[str(i) for i in range(len(values))], threshold=0.1)
    assert "nan" not in drawn
    assert "a<b" not in drawn
