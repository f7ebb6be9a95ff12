"""Small charts as inline SVG: text in, text out; no script, no network, and black on white when printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

#: Readable apart in grey too: dark, middle, light.
INK: Final = ("#1b4f72", "#b03a2e", "#7d6608", "#145a32", "#512e5f")
THEN: Final = "#aab7b8"
NOW: Final = "#1b4f72"


@dataclass(frozen=True)
class Line:
    """A curve: one value for each window, None where there is none; with a band when `low` and `high` are given."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dashed: bool = False
    #: Which points are marked.
    marked: Sequence[bool] = ()


def lines(curves: Sequence[Line], *, labels: Sequence[str], threshold: float | None = None, width: int = 680, height: int = 170) -> str:
    """Curves over the windows. `labels`: the time of each window; the first, the middle and the last are written."""
    known = [v for line in curves for v in line.values if v is not None]
    if not known:
        return "<p>no figures</p>"
    low, high = _range([*known, *([threshold] if threshold is not None else [])], [v for line in curves for v in (*line.low, *line.high)])
    n = max(len(labels), 2)

    def x(i: float) -> float:
        return 44 + (width - 56) * i / (n - 1)

    def y(v: float) -> float:
        return 8 + (height - 34) * (1 - (min(max(v, low), high) - low) / (high - low))

    parts = [_axis(low, high, y, width), _times(labels, x, height)]
    if threshold is not None:
        parts.append(
            f'<line x1="44" x2="{width - 12}" y1="{y(threshold):.1f}" y2="{y(threshold):.1f}" stroke="#b03a2e" stroke-dasharray="2 3"/>'
        )
    for i, line in enumerate(curves):
        parts.append(_curve(line, INK[i % len(INK)], x, y))
    legend = "".join(
        f'<span class="key"><i style="border-top:2px {"dashed" if line.dashed else "solid"} {INK[i % len(INK)]}"></i>{escape(line.name)}</span>'
        for i, line in enumerate(curves)
        if line.name
    )
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg><div class="legend">{legend}</div>'


def _range(known: Sequence[float], bands: Sequence[float | None]) -> tuple[float, float]:
    """The lowest and the highest value that is drawn. A wide band, as a window of few rows has, must not make the curves flat: it is cut."""
    low, high = min(known), max(known)
    more = (high - low) / 2 or math.inf
    room = [v for v in bands if v is not None and math.isfinite(v)]
    low, high = max(min([low, *room]), low - more), min(max([high, *room]), high + more)
    edge = (high - low) * 0.08 or max(abs(high) * 0.1, 0.01)
    return low - edge, high + edge


def _axis(low: float, high: float, y: object, width: int) -> str:
    assert callable(y)
    return "".join(
        f'<line x1="44" x2="{width - 12}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#e5e8e8"/><text x="40" y="{y(v) + 3:.1f}" text-anchor="end">{v:.3g}</text>'
        for v in ticks(low, high)
    )


def ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers between: multiples of 1, 2 or 5 times a power of ten. `low` < `high`."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= (high - low) / 3 * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _times(labels: Sequence[str], x: object, height: int) -> str:
    assert callable(x)
    chosen = sorted({0, len(labels) // 2, len(labels) - 1}) if labels else []
    anchor = {0: "start", len(labels) - 1: "end"}
    return "".join(
        f'<text x="{x(i):.1f}" y="{height - 8}" text-anchor="{anchor.get(i, "middle")}">{escape(labels[i])}</text>' for i in chosen
    )


def _curve(line: Line, ink: str, x: object, y: object) -> str:
    assert callable(x)
    assert callable(y)
    parts = []
    band = [(i, a, b) for i, (a, b) in enumerate(zip(line.low, line.high, strict=False)) if a is not None and b is not None]
    if len(band) > 1:
        edge = [f"{x(i):.1f},{y(b):.1f}" for i, _, b in band] + [f"{x(i):.1f},{y(a):.1f}" for i, a, _ in reversed(band)]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{ink}" opacity=".13"/>')
    points = [(i, v) for i, v in enumerate(line.values) if v is not None]
    dash = ' stroke-dasharray="6 4"' if line.dashed else ""
    path = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="1.6"{dash}/>')
    for i, v in points:
        if i < len(line.marked) and line.marked[i]:
            parts.append(f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="3.4" fill="#b03a2e"/>')
        elif len(points) == 1:
            parts.append(f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="2.4" fill="{ink}"/>')
    return "".join(parts)


def bars(names: Sequence[str], then: Sequence[float], now: Sequence[float], *, width: int = 330, height: int = 150) -> str:
    """Shares then and now, side by side, by cell. `names`: what stands below each."""
    top = max([*then, *now, 1e-9])
    room = (width - 12) / max(1, len(names))
    parts = []
    for i, (a, b) in enumerate(zip(then, now, strict=True)):
        for j, (value, ink) in enumerate(((a, THEN), (b, NOW))):
            tall = (height - 44) * value / top
            left = 6 + i * room + room * (0.12 + 0.38 * j)
            parts.append(
                f'<rect x="{left:.1f}" y="{height - 34 - tall:.1f}" width="{max(0.8, room * 0.36):.1f}" height="{tall:.1f}" fill="{ink}"><title>'
                f"{escape(names[i])}: then {a:.1%}, now {b:.1%}</title></rect>"
            )
    every = max(1, math.ceil(len(names) / max(1, (width - 12) // 64)))
    parts += [
        f'<text x="{6 + (i + 0.5) * room:.1f}" y="{height - 20}" text-anchor="middle">{escape(_short(name))}</text>'
        for i, name in enumerate(names)
        if i % every == 0
    ]
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _short(name: str) -> str:
    return name if len(name) <= 13 else name[:12] + "…"
