"""Whether the truth itself has changed: three detectors on the loss of the answers that were served, in the order of their labels.

The loss of each answer, brought to 0..1, is averaged over blocks of :data:`BLOCK`; ADWIN, Page-Hinkley and KSWIN
(`river.drift`) look at the means. One of them alone is a hint; when two agree, and the loss has risen, the concept has drifted and
all three begin anew. A pure function of the means that are kept, so that a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.monitor.quality import Floats, Task

#: Labels that make one mean: few enough that 2,000 labels are forty, many enough that a mean's error is a fifteenth of a loss's.
BLOCK: Final = 50
#: Means that are kept; what came before is no longer compared with.
KEPT: Final = 1_000
#: Two detectors agree when both fired within so many blocks.
_TOGETHER: Final = 40
#: KSWIN compares the newest means with a sample of those before, each of this size.
_KSWIN: Final = {"window_size": 100, "stat_size": 30, "alpha": 1e-5, "seed": 7}
#: A mean's noise is about .05: its sum, less .02 a block, reaches 1 by chance once in some million blocks.
_PAGE_HINKLEY: Final = {"min_instances": 20, "delta": 0.02, "threshold": 1.0, "mode": "up"}
_ADWIN: Final = {"delta": 0.0005, "clock": 1, "min_window_length": 5, "grace_period": 10}

DETECTORS: Final = ("adwin", "page_hinkley", "kswin")


@dataclass(frozen=True)
class Losses:
    """What is remembered of one model's losses since the last drift."""

    #: The losses of the block that is not full.
    rest: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    #: How many means have been dropped from the front: numbers the blocks.
    dropped: int = 0
    #: Detector -> the number of the block at which it last fired.
    fired: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "fired": dict(self.fired)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Losses:
        """The inverse of :meth:`to_json`."""
        return cls(tuple(values["rest"]), tuple(values["means"]), values["dropped"], values["fired"])


def bounded(prediction: Floats, score: Floats, y: Floats, *, task: Task, scale: float = 1.0) -> Floats:
    """Each answer's loss in 0..1, shape (n,): the squared error of a probability, a wrong class, or 1 - 1 / (1 + squared error / `scale`)."""
    if task == "probability":
        return np.square(score - y)
    if task == "class":
        return np.asarray(prediction != y, dtype=np.float64)
    error = np.square(prediction - y)
    return np.asarray(error / (error + scale)) if scale > 0 else np.minimum(error, 1.0)


def extend(before: Losses, losses: Sequence[float] | Floats) -> tuple[Losses, list[str]]:
    """The losses with new ones behind them, and which detectors fired on these; "agreed" last, after which all begin anew."""
    whole = np.asarray([*before.rest, *losses], dtype=np.float64)
    n = len(whole) // BLOCK
    new = whole[: n * BLOCK].reshape(n, BLOCK).mean(axis=1)
    after = replace(before, rest=tuple(whole[n * BLOCK :].tolist()))
    if not n:
        return after, []
    means = np.asarray([*before.means, *new.tolist()])
    fired = _fired(means, len(new), dropped=before.dropped)
    known = {**before.fired, **fired}
    if _agreed(known, means, before.dropped):
        return replace(after, means=(), dropped=before.dropped + len(means), fired={}), [*sorted(fired), "agreed"]
    gone = max(0, len(means) - KEPT)
    return replace(after, means=tuple(means[gone:].tolist()), dropped=before.dropped + gone, fired=known), sorted(fired)


def _fired(means: NDArray[np.float64], fresh: int, *, dropped: int) -> dict[str, int]:
    """Detector -> the number of the newest block among the `fresh` last at which it fired."""
    from river import drift

    first = len(means) - fresh
    river: Any = drift  # its arguments are not typed
    made = {"adwin": river.ADWIN(**_ADWIN), "page_hinkley": river.PageHinkley(**_PAGE_HINKLEY), "kswin": river.KSWIN(**_KSWIN)}
    # KSWIN looks no further back than its window, and each of its tests costs a third of a millisecond.
    begin = {"kswin": max(0, first - int(_KSWIN["window_size"]))}
    positions = {}
    for name, detector in made.items():
        for number in range(begin.get(name, 0), len(means)):
            detector.update(float(means[number]))
            if detector.drift_detected and number >= first:
                positions[name] = number + dropped
    return positions


def _agreed(fired: Mapping[str, int], means: NDArray[np.float64], dropped: int) -> bool:
    """Two fired close together, and the newest means are above those before."""
    places = sorted(fired.values())
    if len(places) < 2 or places[-1] - places[-2] > _TOGETHER:
        return False
    cut = max(1, places[-2] - dropped - 10)
    return bool(means[cut:].mean() > means[:cut].mean())
