"""Progress on the screen: how long the run has taken, what it is doing."""

from __future__ import annotations

import os
import time


class Watch:
    """Prints a line for each step, with the seconds since the start."""

    def __init__(self, *, expected_s: float) -> None:
        self._began, self._expected_s = time.monotonic(), expected_s

    @property
    def passed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, what: str) -> None:
        """One line."""
        print(f"[{self.passed_s:>4.0f} s of about {self._expected_s:.0f}] {what} (load {os.getloadavg()[0]:.1f})", flush=True)
