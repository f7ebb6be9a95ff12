"""How good each model's answers were, second by second, and the chart of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streaming.demo.audience import JobOutput
from streaming.demo.traffic import Sent

_HEIGHT: Final = 9
#: Models are told apart by their mark; where two meet both are there.
_MARKS: Final = ("●", "○", "◆", "◇")
_BOTH: Final = "◉"


@dataclass(frozen=True)
class Curve:
    """The area under the ROC curve of one model, per second of traffic; NaN where it cannot be told."""

    model: str
    auc: NDArray[np.float64]

    def mean(self, first: int, last: int) -> float:
        """The mean over seconds first..last-1 that have a value; NaN when none has."""
        part = self.auc[first:last]
        return float(part[~np.isnan(part)].mean()) if (~np.isnan(part)).any() else float("nan")


def auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """P(score of a positive > score of a negative) + P(tie) / 2; NaN while one class is missing (Hanley, McNeil 1982)."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if not len(positives) or not len(negatives):
        return float("nan")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.sum() / (2.0 * len(positives) * len(negatives)))


def curves(sent: Sent, seen: JobOutput, *, seconds: int) -> list[Curve]:
    """One curve a model, from the answers that were really served and the labels that came later."""
    return [Curve(model, _per_second(sent.truth, served, seconds)) for model, served in sorted(seen.served.items())]


def _per_second(
    truth: Mapping[tuple[str, str], tuple[int, float]], served: Mapping[tuple[str, str], float | None], seconds: int
) -> NDArray[np.float64]:
    rows = [(int(at), label, score) for event, (label, at) in truth.items() if (score := served.get(event)) is not None]
    areas = np.full(seconds, np.nan)
    if rows:
        second, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
        for s in range(seconds):
            areas[s] = auc(labels[second == s], scores[second == s].astype(float))
    return areas


def chart(curves: Sequence[Curve], *, drift: int) -> str:
    """The curves in the terminal, time from left to right; the drift is a column of `┊`."""
    values = np.concatenate([curve.auc for curve in curves]) if curves else np.array([np.nan])
    if np.isnan(values).all():
        return "(nothing to draw)"
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    spread = max(high - low, 1e-9)
    width = max(len(curve.auc) for curve in curves)
    grid = [["┊ " if column == drift else "  " for column in range(width)] for _ in range(_HEIGHT)]
    for mark, curve in zip(_MARKS, curves, strict=False):
        for column, value in enumerate(curve.auc):
            if not np.isnan(value):
                row = _HEIGHT - 1 - round((value - low) / spread * (_HEIGHT - 1))
                taken = grid[row][column][0] in _MARKS
                grid[row][column] = (_BOTH if taken else mark) + " "
    labels = [f"{high:.2f}" if row == 0 else f"{low:.2f}" if row == _HEIGHT - 1 else "    " for row in range(_HEIGHT)]
    legend = "  ".join(f"{mark} {curve.model}" for mark, curve in zip(_MARKS, curves, strict=False))
    lines = [f"{label} │{''.join(row)}" for label, row in zip(labels, grid, strict=True)]
    return "\n".join(
        [
            *lines,
            f"     └{'──' * width}",
            f"      0 s{' ' * max(1, 2 * drift - 6)}drift{' ' * max(1, 2 * (width - drift) - 8)}{width} s",
            f"      {legend}",
        ]
    )


def picture(curves: Sequence[Curve], path: Path, *, drift: int) -> bool:
    """Write the curves as a PNG; False when matplotlib is not installed (the extra `charts`)."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(np.arange(len(curve.auc)) + 0.5, curve.auc, marker="o", markersize=3, label=curve.model)
    axes.axvline(drift, color="grey", linestyle=":", label="drift sets in")
    axes.set(xlabel="seconds", ylabel="area under the ROC curve, as served", title="A frozen pipeline and a learner under drift")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)
    return True
