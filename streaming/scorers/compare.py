"""The proof of a conversion: the original and the portable form answer the same rows, and every difference is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streaming.errors import ModelError
from streaming.scorers.base import Scores

#: Rows that are generated for every conversion.
ROWS: Final = 10_000
#: Largest difference allowed, relative to the original's answer where that is above 1: both forms compute in double.
TOLERANCE: Final = 1e-9
_WORST: Final = 5


@dataclass(frozen=True)
class Agreement:
    """How far two forms of a model agree."""

    rows: int
    #: Rows that the original cannot score.
    rejected: int
    #: Rows that one form scored and the other rejected.
    verdicts: int
    #: Rows with another predicted class; 0 for models that predict numbers.
    labels: int
    #: Largest difference of each output, relative where the answer is above 1.
    largest: Mapping[str, float]
    #: The numbers of the rows that differ most, worst first: never their values.
    worst: Sequence[int]
    tolerance: float

    @property
    def ok(self) -> bool:
        """True when the portable form may be used in place of the original."""
        return not self.verdicts and not self.labels and all(value <= self.tolerance for value in self.largest.values())

    def text(self) -> str:
        """The report for people."""
        differences = ", ".join(f"{name} {value:.2g}" for name, value in self.largest.items())
        lines = [
            f"parity: {self.rows} rows, {self.rejected} of them rejected by the original",
            f"  scored by one and rejected by the other: {self.verdicts}; other labels: {self.labels}",
            f"  largest difference: {differences} (allowed {self.tolerance:.0e})",
        ]
        if not self.ok:
            lines.append(f"  worst rows: {', '.join(map(str, self.worst))}")
        return "\n".join(lines)


def compare(original: Scores, portable: Scores, *, classes: bool, tolerance: float = TOLERANCE) -> Agreement:
    """Compare the answers to the same rows. `classes`: predictions are labels, and must be equal."""
    n = len(original.prediction)
    if len(portable.prediction) != n:
        raise ModelError(f"parity: the portable form answered {len(portable.prediction)} of {n} rows")
    rejected = np.array([said is not None for said in original.error], dtype=bool)
    refused = np.array([said is not None for said in portable.error], dtype=bool)
    both = ~rejected & ~refused
    difference = np.where(rejected != refused, np.inf, 0.0)
    largest: dict[str, float] = {}
    apart = both & (original.prediction != portable.prediction) if classes else np.zeros(n, dtype=bool)
    difference[apart] = np.inf
    if not classes:
        away = _away(original.prediction, portable.prediction, both)
        difference, largest["prediction"] = np.maximum(difference, away), float(away.max(initial=0.0))
    # Where no row has an answer, a form may not know that there are probabilities.
    if both.any() and (original.probability is None) != (portable.probability is None):
        raise ModelError("parity: one form gives probabilities and the other none")
    if original.probability is not None and portable.probability is not None:
        if original.probability.shape != portable.probability.shape:
            raise ModelError(f"parity: probabilities of shape {original.probability.shape}, portable {portable.probability.shape}")
        away = _away(original.probability, portable.probability, both[:, None]).max(axis=1, initial=0.0)
        difference, largest["probability"] = np.maximum(difference, away), float(away.max(initial=0.0))
    order = np.argsort(-difference, kind="stable")[:_WORST]
    worst = tuple(int(row) for row in order if difference[row] > tolerance)
    return Agreement(n, int(rejected.sum()), int((rejected != refused).sum()), int(apart.sum()), largest, worst, tolerance)


def _away(a: NDArray[np.float64], b: NDArray[np.float64], both: NDArray[np.bool_]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.where(both, np.abs(a - b) / np.maximum(1.0, np.abs(a)), 0.0)


def demand(report: Agreement, where: str) -> Agreement:
    """The report. ModelError when the two forms differ by more than the tolerance."""
    if not report.ok:
        raise ModelError(f"{where}: the portable form does not answer as the original does, so it was not written:\n{report.text()}")
    return report
