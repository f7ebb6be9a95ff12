"""What the job says of itself to whoever asks over HTTP: alive, ready, and every lane's status. One thread writes, others read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from streaming.monitor import status
from streaming.monitor.status import Status

#: The job looks at its lanes twice a second; a broker that does not answer holds it up for some seconds at a time.
STUCK_AFTER_S: Final = 60.0


class Health:
    """The newest statuses of the lanes. `purpose`: the lane that the job is for, if it runs here."""

    def __init__(self, lanes: Sequence[str], *, purpose: str) -> None:
        now = time.time()
        self.purpose = purpose
        self.statuses: tuple[Status, ...] = tuple(Status(lane, "starting", now) for lane in lanes)
        self._looked: float | None = None

    def update(self, statuses: Sequence[Status]) -> None:
        """The job has looked at its lanes just now."""
        # One assignment of an immutable value: a reader sees all of the old ones or all of the new ones.
        self.statuses = tuple(statuses)
        self._looked = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the job still looks at its lanes. A job that is starting is alive."""
        return self._looked is None or time.monotonic() - self._looked < STUCK_AFTER_S

    @property
    def ready(self) -> bool:
        """Whether the job does what it is for."""
        return status.is_ready(self.statuses, purpose=self.purpose)

    def report(self, *, words: bool) -> dict[str, Any]:
        """Every lane's state, since when, and why. `words` False: errors by their class alone."""
        return status.report(self.statuses, purpose=self.purpose, at=time.time(), words=words)
