"""What the monitor made of the demo's drift: when it noticed, what it named, and how long after the drift began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from streaming.config.load import Config


def alerts(config: Config) -> list[dict[str, Any]]:
    """The alerts in the history of the demo's job, oldest first."""
    from streaming.lanes.monitor_state import history
    from streaming.runtime.files import LocalFolder

    return history(LocalFolder(Path(config.state))).alerts()


def lines(alerts: Sequence[Mapping[str, Any]], *, drifted_at: datetime) -> list[str]:
    """A line for each alert that was raised, with the time since the drift began; those before it are false alarms."""
    said = []
    for alert in alerts:
        if alert["state"] == "raised":
            after_s = (datetime.fromisoformat(alert["at"]) - drifted_at).total_seconds()
            when = f"{after_s:4.1f} s after the drift began" if after_s >= 0 else f"{-after_s:.1f} s before it began: a false alarm"
            said.append(f"{when}: {alert['says']}")
    return said or ["it noticed nothing: the job was stopped before a whole window of the second half was over"]
