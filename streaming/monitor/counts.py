"""Counts by name that one thread adds to and another takes away."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class PendingCounts:
    """How often what happened since somebody last asked: nothing is counted twice, nothing is forgotten."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, counts: Mapping[str, int]) -> None:
        """Count these too."""
        with self._lock:
            self._counts.update(counts)

    def take(self) -> dict[str, int]:
        """All that was counted since the last call."""
        with self._lock:
            taken, self._counts = dict(self._counts), Counter()
        return taken
