"""How long answers took, from the event's record to its prediction's: counted row by row inside the score query, a histogram each batch.

The clock of whoever wrote the event's record (or of the broker, with LogAppendTime) is compared with that of the
machine that writes the prediction: clocks that differ show as latency, and a difference below zero counts as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Upper bounds of the buckets in milliseconds: from what real-time mode takes, over what micro-batches take, to a backlog.
BOUNDS_MS: Final = (2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)

#: The names of what the query counts: rows within a bound, all rows, and the sum of their milliseconds.
WITHIN: Final = "latency_within_"
ROWS: Final = "latency_rows"
SUM_MS: Final = "latency_sum_ms"


@dataclass(frozen=True)
class Latency:
    """The answers of one batch by how long they took. `within`: how many took at most each of BOUNDS_MS."""

    within: tuple[int, ...]
    rows: int
    sum_ms: int


def of_observed(observed: Mapping[str, Any]) -> Latency | None:
    """What the query counted in one batch; None when it counted nothing."""
    rows = int(observed.get(ROWS) or 0)
    if not rows:
        return None
    return Latency(tuple(int(observed.get(f"{WITHIN}{bound}") or 0) for bound in BOUNDS_MS), rows, int(observed.get(SUM_MS) or 0))
