"""What is remembered of a learner's past beside its state: how well it did, what the labels were, and whether it went astray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from numpy.typing import NDArray

from streaming.online import metrics
from streaming.online.base import Array, Labels, from_arrays, to_arrays
from streaming.online.divergence import Batch, Divergence, DivergenceWatch, LabelBaseline
from streaming.online.metrics import Counted, Tally, TallyWindow
from streaming.online.weights import Weights

B = TypeVar("B", bound=Counted)

#: A window is kept in about this many pieces: enough to slide smoothly, few enough for a small state.
PIECES: Final = 20


@dataclass(frozen=True, eq=False)
class LookBack:
    """Three memories of one learner: `window` (metrics), `baseline` (the dullest predictor) and `watch` (their comparison)."""

    window: TallyWindow
    baseline: LabelBaseline
    watch: DivergenceWatch

    @classmethod
    def start(cls, rows: int, classes: int) -> LookBack:
        """Nothing seen yet; `rows` is how far back it looks."""
        return cls(TallyWindow(rows), LabelBaseline.start(classes), DivergenceWatch(window=rows))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], rows: int, classes: int) -> LookBack:
        """The inverse of :meth:`to_arrays`; a memory that is not among `arrays` starts anew."""
        fresh = to_arrays(cls.start(rows, classes))
        kept = {prefix for prefix in ("window.", "baseline.", "watch.") if any(name.startswith(prefix) for name in arrays)}
        added = {name: array for name, array in fresh.items() if not name.startswith(tuple(kept))}
        return from_arrays(cls, {**arrays, **added})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As a flat dict of arrays, named `window.…`, `baseline.…` and `watch.…`."""
        return to_arrays(self)

    def after(self, labels: Labels, tally: Tally, y: Array) -> LookBack:
        """The memories after one more batch: the answers that were served, and the labels `y` of those rows."""
        if not tally.n:
            return self
        compared = Batch(tally.n, tally.loss, float(self.baseline.losses(labels, y).sum()))
        return LookBack(
            replace(self.window, batches=_pieces(self.window.batches, tally, self.window.rows, metrics.merge)),
            self.baseline.learn(y),
            replace(self.watch, batches=_pieces(self.watch.batches, compared, self.watch.window, _sum)),
        )

    def judged_anew(self) -> LookBack:
        """Without the losses so far: after a command they do not count against what the learner does next."""
        return replace(self, watch=DivergenceWatch(window=self.watch.window))

    def report(self, labels: Labels) -> dict[str, float]:
        """The metrics over the window."""
        return metrics.report(labels, self.window.total())

    def verdict(self, weights: Weights | None) -> Divergence:
        """Whether the learner has diverged; see :meth:`streaming.online.divergence.DivergenceWatch.verdict`."""
        return self.watch.verdict(weights)

    @property
    def good(self) -> bool:
        """Whether the learner was watched, and did no worse than the baseline."""
        batches = self.watch.batches
        return bool(batches) and sum(b.loss for b in batches) <= sum(b.baseline for b in batches)


def _pieces(batches: tuple[B, ...], batch: B, rows: int, add: Callable[[B, B], B]) -> tuple[B, ...]:
    """The newest batches with one more; a small last piece takes it in, so that there are few pieces."""
    if batches and batches[-1].n < rows // PIECES:
        return metrics.newest(batches[:-1], add(batches[-1], batch), rows)
    return metrics.newest(batches, batch, rows)


def _sum(a: Batch, b: Batch) -> Batch:
    return Batch(a.n + b.n, a.loss + b.loss, a.baseline + b.baseline)


__all__ = ["PIECES", "LookBack"]
