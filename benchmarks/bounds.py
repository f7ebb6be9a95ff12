"""What the figures are held to: ratios of one run, and a few that are absolute. Held, missed, or not measured: said plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.results import Results
from benchmarks.systems.catalogue import SYSTEMS

_THOUSAND = "1,000 events/s"
#: Some figure of the results; None when it was not measured.
Get = Callable[[Results], float | None]


@dataclass(frozen=True)
class Bound:
    """One figure, and what it must not pass."""

    says: str
    figure: Get
    limit: float
    #: True: the figure is at least the limit; False: at most.
    least: bool
    unit: str = ""

    def judge(self, results: Results) -> tuple[str, str]:
        """(measured, verdict) in words."""
        figure = self.figure(results)
        if figure is None:
            return "-", "not measured"
        held = figure >= self.limit if self.least else figure <= self.limit
        return f"{figure:.3g}{self.unit}" if figure < 1000 else f"{figure:,.0f}{self.unit}", "held" if held else "**missed**"

    @property
    def expected(self) -> str:
        """The limit in words."""
        return f"{'≥' if self.least else '≤'} {self.limit:,g}{self.unit}"


def latency(name: str, measure: str) -> Get:
    """A latency at 1,000 events a second."""
    return lambda results: _get(results, "latency", name, _THOUSAND, measure)


def drain(name: str, measure: str) -> Get:
    """A rate of the drain, whatever the size of the backlog."""

    def get(results: Results) -> float | None:
        part = results.parts.get("drain")
        settings = {figure.setting for figure in part.figures} if part else set()
        return next((_get(results, "drain", name, setting, measure) for setting in settings), None)

    return get


def cost(form: str, measure: str) -> Get:
    """A figure of a linear model over 1,000 columns."""
    return lambda results: results.parts["cost"].get(form, "linear, 1,000 columns", measure) if "cost" in results.parts else None


def label(setting: str, measure: str) -> Get:
    """A figure of the labels, by how its setting begins."""

    def get(results: Results) -> float | None:
        part = results.parts.get("labels")
        figures = (
            figure for figure in (part.figures if part else []) if figure.setting.startswith(setting) and figure.measure.startswith(measure)
        )
        return next((figure.spread.median for figure in figures), None)

    return get


def ratio(above: Get, below: Get) -> Get:
    """One by the other; a latency below a millisecond, which the clock does not resolve, counts as one."""

    def get(results: Results) -> float | None:
        top, bottom = above(results), below(results)
        return None if top is None or bottom is None else max(top, 1.0) / max(bottom, 1.0)

    return get


def _get(results: Results, part: str, name: str, setting: str, measure: str) -> float | None:
    part_results = results.parts.get(part)
    return part_results.get(SYSTEMS[name].title, setting, measure) if part_results else None


BOUNDS: Final = (
    Bound("drain, warm: ours / one plain process with scikit-learn", ratio(drain("microbatch", "warm"), drain("sklearn", "warm")), 2.2, True, " x"),
    Bound("drain, warm: ours / Spark that only parses", ratio(drain("microbatch", "warm"), drain("parse", "warm")), 0.6, True, " x"),
    Bound("drain, cold start included: ours / one plain process", ratio(drain("microbatch", "cold"), drain("sklearn", "cold")), 1.3, True, " x"),
    Bound("real-time, score alone: p99 / identity's", ratio(latency("realtime", "p99"), latency("identity-realtime", "p99")), 1.5, False, " x"),
    Bound("real-time, score + store: p99", latency("realtime-store", "p99"), 30.0, False, " ms"),
    Bound("real-time, all lanes: p50", latency("realtime-all", "p50"), 3.0, False, " ms"),
    Bound("real-time, all lanes: p99", latency("realtime-all", "p99"), 100.0, False, " ms"),
    Bound("micro-batch, score alone: p50 / identity's", ratio(latency("microbatch", "p50"), latency("identity-microbatch", "p50")), 2.5, False, " x"),
    Bound("micro-batch, all lanes: p50", latency("microbatch-all", "p50"), 350.0, False, " ms"),
    Bound("labels: backlog", label("backlog", "labels/s after"), 20_000.0, True, " labels/s"),
    Bound("labels: in force, micro-batch, p99", label("in force, microbatch", "p99"), 5.0, False, " s"),
    Bound("labels: in force, real-time, p99", label("in force, realtime", "p99"), 5.0, False, " s"),
    Bound("1,000 columns, linear: planning of the folded form", cost("folded", "planning"), 2.0, False, " s"),
    Bound("1,000 columns, linear: folded / PipelineModel", ratio(cost("folded", "rows/s"), cost("PipelineModel", "rows/s")), 3.0, True, " x"),
)  # fmt: skip
