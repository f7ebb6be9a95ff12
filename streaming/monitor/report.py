"""The page of `streaming drift --html`: one file, no network, no script; distributions then and now, drift and quality over time, alerts.

It names categories: it has the access rights of the events themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import numpy as np

from streaming.monitor.baseline import Baseline
from streaming.monitor.bins import NULL, Column
from streaming.monitor.charts import NOW, THEN, Line, bars, lines
from streaming.monitor.overview import PastWindow, Row, by_themselves, excess, of_what, worst
from streaming.monitor.record import chance, iso
from streaming.monitor.statistics import ALL, FEATURES, Statistics, Vector

#: Columns of which the distributions and the curves are shown.
_MOST: Final = 12
_CATEGORIES: Final = 8
_BARS: Final = 16

_STYLE: Final = """
:root{color-scheme:light}body{font:14px/1.45 system-ui,sans-serif;color:#1c2833;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #d5d8dc;padding-bottom:.2rem}h3{font-size:.95rem;margin:.8rem 0 .2rem}
p{margin:.3rem 0}.grey{color:#5d6d7e}.verdict{font-size:1.1rem;padding:.6rem .8rem;border-left:4px solid #1e8449;background:#f4f6f6;margin:1rem 0}.verdict.bad{border-color:#b03a2e;color:inherit;font-weight:400}
table{border-collapse:collapse;width:100%;margin:.4rem 0}td,th{text-align:left;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #eaeded;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.t{white-space:nowrap;padding-right:1rem}
.bad{color:#b03a2e;font-weight:600}.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(18rem,1fr));gap:.6rem 1.2rem}svg{width:100%;height:auto}svg text{font-size:10px;fill:#5d6d7e}
.legend{margin-top:-.3rem}.key{margin-right:1.2rem;font-size:12px}.key i{display:inline-block;width:1.4rem;margin-right:.4rem;vertical-align:middle}.box{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem -.1rem .8rem}
figure{margin:0 0 .8rem;break-inside:avoid}figcaption{font-size:12.5px}
@page{margin:14mm}
@media print{:root{font-size:12px;print-color-adjust:exact;-webkit-print-color-adjust:exact}body{margin:0;padding:0;max-width:none;font-size:11px}h2,h3,.legend-of{break-after:avoid}figure,svg,tr,.verdict{break-inside:avoid}thead{display:table-header-group}.grid{grid-template-columns:repeat(3,1fr)}a{color:inherit;text-decoration:none}}
"""


@dataclass(frozen=True)
class Source:
    """What the page is made of."""

    service: str
    model: str
    windows: Sequence[PastWindow]
    alerts: Sequence[Mapping[str, Any]]
    #: None: the baseline is gone; then the page has no distributions.
    baseline: Baseline | None
    #: The start of a window -> its sums.
    sums: Mapping[int, Statistics]


def shown(windows: Sequence[PastWindow]) -> PastWindow:
    """The window that the page is about: the newest that was judged, unless only an older one drifted."""
    judged = [seen for seen in windows if seen.judged]
    newest = judged[-1] if judged else windows[-1]
    return newest if newest.drifted else worst(windows) or newest


def page(source: Source, *, at: datetime) -> str:
    """The whole page."""
    seen = shown(source.windows)
    title = f"{source.service}: what the monitor saw"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="grey">model {escape(source.model)} · {len(source.windows)} windows, {_when(source.windows[0].start)} to {_when(source.windows[-1].end)} UTC '
        f"· made {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC{_baseline_words(source.baseline)}</p>",
        _verdict(source.windows, seen),
        _alerts(source.alerts, source.baseline),
        "<h2>Quality over time</h2>",
        _quality(source.windows),
        "<h2>Drift over time</h2>",
        _drift(source.windows),
        f"<h2>Then and now: the window of {_when(seen.start)}</h2>",
        _distributions(source, seen),
        _drifted(seen),
        _WORDS,
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


_WORDS: Final = (
    "<h2>How to read this</h2><p>A figure has drifted when it is large (above its threshold) <i>and</i> sure (its corrected chance in quiet data is small). "
    "The estimate of quality needs no labels: it holds while only the inputs change. When their meaning changes, the labels alone tell, and "
    "the gap between the two curves is the sign of it. A column's share of the shift counts its own change only; columns that move together each show it.</p>"
)


def _when(ms: int) -> str:
    """A time in UTC, to the minute where it is a whole one."""
    return _clock(iso(ms), 19 if ms % 60_000 else 16)


def _clock(text: str, letters: int = 19) -> str:
    return escape(text[:letters].replace("T", " "))


def _labels(windows: Sequence[PastWindow]) -> list[str]:
    """What stands below a curve: times of day, with their date where there are several."""
    letters = 19 if any(w.start % 60_000 for w in windows) else 16
    whole = [_clock(iso(w.start), letters) for w in windows]
    return [text[11:] if len({each[:10] for each in whole}) == 1 else text[5:] for text in whole]


def _baseline_words(baseline: Baseline | None) -> str:
    return "" if baseline is None else f" · baseline: {baseline.rows:,} rows of {escape(baseline.source)}"


def _verdict(windows: Sequence[PastWindow], seen: PastWindow) -> str:
    bad = [w for w in windows if w.drifted]
    if not bad:
        return '<p class="verdict">Nothing drifted in any window.</p>'
    names = list(dict.fromkeys(of_what(row) for row in by_themselves(seen.drifted)))[:5]
    carried = [f"{name} {share:.0%}" for name, share in seen.carriers()[:4] if share >= 0.05]
    shift = f" The prediction's shift is carried by {escape(', '.join(carried))}." if carried else ""
    return (
        f'<p class="verdict bad">{len(bad)} of {len(windows)} windows drifted, the first at {_when(bad[0].start)}. '
        f"In the window of {_when(seen.start)}: {escape(', '.join(names))}.{shift}</p>"
    )


def _alerts(alerts: Sequence[Mapping[str, Any]], baseline: Baseline | None) -> str:
    if not alerts:
        return "<h2>Alerts</h2><p>none</p>"
    rows = "".join(
        f"<tr><td class=t>{_clock(a['window_end'])}</td><td{' class=bad' if a['state'] == 'raised' else ''}>{escape(a['state'])}</td>"
        f"<td>{escape(a['severity'])}</td><td>{escape(_named(a['says'], baseline))}{' (silenced)' if a.get('silenced') else ''}</td>"
        f"<td class=t>{_clock(a['since'])}</td><td>{escape(a['model_version'])}</td></tr>"
        for a in reversed(alerts[-30:])
    )
    head = "<thead><tr><th>at<th>state<th>severity<th>what<th>since<th>version</tr></thead>"
    return f"<h2>Alerts</h2><table>{head}<tbody>{rows}</tbody></table>"


def _named(says: str, baseline: Baseline | None) -> str:
    """What an alert says, the slices by their values: outside this page they have numbers only."""
    if baseline is None:
        return says
    known = {name: baseline.slice_value(name) for name in baseline.layout.slice_names() if name}
    return re.sub(r"where ([^\s,]+#\d+)", lambda where: f"where {known.get(where[1], where[1])}", says)


def _quality(windows: Sequence[PastWindow]) -> str:
    labels = _labels(windows)
    figures = []
    for statistic, words in (("accuracy", "Accuracy"), ("area_under_roc", "Area under the ROC curve"), ("rmse", "Root mean squared error")):
        models = sorted(
            {row["subject"] for w in windows for row in w.rows if (row["kind"], row["statistic"], row["slice"]) == ("truth", statistic, "")}
        )
        curves = [_line(windows, "truth", statistic, model, f"{model}, measured") for model in models]
        expected = sorted({row["subject"] for w in windows for row in w.rows if (row["kind"], row["statistic"]) == ("estimate", statistic)})
        curves += [
            _line(windows, "estimate", statistic, model, f"{model}, to be expected without labels", dashed=True) for model in expected
        ]
        if curves:
            figures.append(f"<figure><figcaption>{words}</figcaption>{lines(curves, labels=labels)}</figure>")
    return "".join(figures) or "<p>No labels have come, and the baseline had none to estimate from.</p>"


def _line(windows: Sequence[PastWindow], kind: str, statistic: str, subject: str, name: str, *, dashed: bool = False) -> Line:
    rows = [w.figure(kind, statistic, subject=subject) for w in windows]
    column = {end: [None if row is None else row[end] for row in rows] for end in ("value", "low", "high")}
    return Line(name, column["value"], column["low"], column["high"], dashed)


def _drift(windows: Sequence[PastWindow]) -> str:
    labels = _labels(windows)
    tops: dict[tuple[str, str], float] = {}
    for w in windows:
        for row in w.rows:
            if row["kind"] in {"feature", "prediction"} and row["statistic"] in {"psi", "nulls"} and not row["slice"]:
                key = row["kind"], row["subject"]
                tops[key] = max(tops.get(key, 0.0), excess(row))
    chosen = sorted(tops, key=lambda key: (key[0] != "prediction", -tops[key]))[:_MOST]
    return (
        f'<div class="grid">{"".join(_small(windows, labels, kind, subject) for kind, subject in chosen)}</div>'
        if chosen
        else "<p>No window had rows enough.</p>"
    )


def _small(windows: Sequence[PastWindow], labels: Sequence[str], kind: str, subject: str) -> str:
    rows = [w.figure(kind, "psi", subject=subject) or w.figure(kind, "nulls", subject=subject) for w in windows]
    marked = [any(r["drifted"] for r in w.rows if (r["kind"], r["subject"]) == (kind, subject)) for w in windows]
    limit = next((row["threshold"] for row in rows if row is not None), None)
    curve = Line("", [None if row is None else row["value"] for row in rows], marked=marked)
    name = f"prediction of {subject}" if kind == "prediction" else subject
    return (
        f"<figure><figcaption>{escape(name)}</figcaption>{lines([curve], labels=labels, threshold=limit, width=330, height=110)}</figure>"
    )


def _distributions(source: Source, seen: PastWindow) -> str:
    base, now = source.baseline, source.sums.get(seen.start)
    if base is None or now is None:
        return "<p>The baseline or the window's sums are gone.</p>"
    before, after = base.statistics.get(ALL, FEATURES), now.get(ALL, FEATURES)
    if before is None or after is None:
        return "<p>The window has no events.</p>"
    then, current = base.layout.parts(before), base.layout.parts(after)
    worst_first = sorted(base.layout.columns, key=lambda c: -max((excess(r) for r in seen.rows if r["kind"] == "feature" and r["subject"] == c.name and not r["slice"]), default=0.0))  # fmt: skip
    figures = [_figure(c, then[c.name], current[c.name], _drifts(seen, c.name)) for c in worst_first[:_MOST]]
    legend = f'<p class="legend-of"><span class="box" style="background:{THEN}"></span>then (baseline)<span class="box" style="background:{NOW}"></span>now</p>'
    return f'{legend}<div class="grid">{"".join(figures)}</div>'


def _drifts(seen: PastWindow, name: str) -> bool:
    return any(row["drifted"] for row in seen.rows if row["kind"] == "feature" and row["subject"] == name)


def _figure(column: Column, before: Vector, after: Vector, drifted: bool) -> str:
    names, then, now = _cells(column, before, after)
    mark = ' <span class="bad">drifted</span>' if drifted else ""
    return f"<figure><figcaption>{escape(column.name)}{mark}</figcaption>{bars(names, then, now)}</figure>"


def _cells(column: Column, before: Vector, after: Vector) -> tuple[list[str], list[float], list[float]]:
    """The cells to be shown with their shares: of a number neighbours joined, of a text the most frequent; nulls last."""
    p, q = (v[: column.bins + 1] / max(v[: column.bins + 1].sum(), 1.0) for v in (before, after))
    nulls = [float(x[column.bins + NULL]) for x in (p, q)]
    if column.kind == "number":
        names, groups = _joined(column, p, q)
    elif column.kind == "category":
        order = sorted(range(len(column.categories)), key=lambda i: -max(p[i], q[i]))[:_CATEGORIES]
        rest = [i for i in range(column.bins) if i not in order]
        names, groups = [column.categories[i] for i in order], [[i] for i in order]
        if p[rest].sum() + q[rest].sum() > 0:
            names, groups = [*names, "all others"], [*groups, rest]
    else:
        names, groups = ["a value"], [[0]]
    shares = [[float(x[group].sum()) for group in groups] for x in (p, q)]
    if any(nulls):
        return [*names, "null"], [*shares[0], nulls[0]], [*shares[1], nulls[1]]
    return names, shares[0], shares[1]


def _joined(column: Column, then: Vector, now: Vector) -> tuple[list[str], list[list[int]]]:
    """The cells of a number that hold anything, and what stands below each; neighbours joined until there are few enough, each with about
    the same share of the baseline."""
    cells = [i for i in range(column.bins) if then[i] or now[i]] or [0]
    if len(cells) <= _BARS:
        groups = [[i] for i in cells]
    else:
        middle = np.cumsum(then[cells]) - then[cells] / 2
        number = np.minimum((middle / max(then[cells].sum(), 1e-12) * _BARS).astype(int), _BARS - 1)
        groups = [[i for i, own in zip(cells, number, strict=True) if own == n] for n in np.unique(number)]
    return [_range(column, group) for group in groups], groups


def _range(column: Column, group: list[int]) -> str:
    borders = [-np.inf, *column.edges, np.inf]
    left, right, after = borders[group[0]], borders[group[-1] + 1], borders[min(group[-1] + 2, column.bins)]
    if np.nextafter(left, np.inf) == right:
        return _short(right)  # a value with a cell of its own
    if right == np.inf:
        return f"> {_short(left)}" if left == column.high else f"≤ {_short(column.high)}"
    return f"< {_short(after)}" if np.nextafter(right, np.inf) == after else f"≤ {_short(right)}"


def _short(x: float) -> str:
    return f"{x:,.0f}" if 1000 <= abs(x) < 1_000_000 else f"{x:.3g}"


def _drifted(seen: PastWindow) -> str:
    if not seen.drifted:
        return ""
    named = by_themselves(seen.drifted)
    hidden = len(seen.drifted) - len(named)
    slices = f'<p class="grey">and {hidden} of these in slices, no farther than as a whole</p>' if hidden else ""
    head = "<thead><tr><th>what<th>statistic<th class=n>value<th class=n>threshold<th class=n>chance<th class=n>rows</tr></thead>"
    return f"<h3>What drifted</h3><table>{head}<tbody>{''.join(_rows(named[:40]))}</tbody></table>{slices}"


def _rows(figures: Sequence[Row]) -> Iterator[str]:
    for row in figures:
        p = "" if row["p"] is None else escape(chance(row["p"]))
        yield (
            f"<tr><td>{escape(of_what(row))}</td><td>{escape(row['statistic'])}</td><td class=n>{row['value']:.3f}</td>"
            f"<td class=n>{row['threshold']:.3f}</td><td class=n>{p}</td><td class=n>{row['rows'] or 0:,}</td></tr>"
        )
