"""What a lane of the job does, since when, and why: values, and what follows from them. Pure: time is given.

starting ──► running ──► waiting ──► starting …     died of something that may pass: started again, after growing pauses
    │           └─────► down                        died of something that somebody has to mend
    └──► waiting | down
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

State = Literal["starting", "running", "waiting", "down", "stopped"]

STATES: Final[tuple[State, ...]] = get_args(State)

#: The pause before the first attempt; each death in a row doubles it.
FIRST_PAUSE_S: Final = 1.0
#: Longest pause after an outage that has a name (broker, database): they come back, and then nobody should wait long.
OUTAGE_PAUSE_S: Final = 30.0
#: Longest pause after a death that nobody has classified: probably a bug, and every attempt takes time from the other lanes.
UNKNOWN_PAUSE_S: Final = 600.0
#: A lane that ran this long, or finished a batch with records in it, has recovered: its next death is the first in a row.
STEADY_S: Final = 60.0
#: A lane that was started again after a death counts as running when it has finished a batch, or has lived this long.
PROVEN_AFTER_S: Final = 15.0


@dataclass(frozen=True)
class Status:
    """One lane: what it does, since when, and why."""

    lane: str
    state: State
    #: Seconds since 1970.
    since: float
    #: The class of the error it died of, and its words; empty while all is well.
    error: str = ""
    why: str = ""
    #: How often it was started again since the job began.
    restarts: int = 0
    #: When it will be started again, in seconds since 1970; only while it waits.
    retry_at: float | None = None

    def now(self, state: State, at: float) -> Status:
        """The lane in another state, the reason kept."""
        return replace(self, state=state, since=at, retry_at=None)


def pause_s(deaths: int, *, longest: float) -> float:
    """How long to wait after the `deaths`-th death in a row (1 is the first)."""
    return min(longest, FIRST_PAUSE_S * 2.0 ** min(deaths - 1, 30))


def is_ready(statuses: Sequence[Status], *, purpose: str) -> bool:
    """Whether the job does what it is for: the lane `purpose` runs, or, in a process without it, every lane."""
    decisive = [status for status in statuses if status.lane == purpose] or list(statuses)
    return bool(decisive) and all(status.state == "running" for status in decisive)


def report(statuses: Sequence[Status], *, purpose: str, at: float, words: bool = True) -> dict[str, Any]:
    """The answer to "are you ready?", as JSON. `words` False: the classes of errors without what they say."""
    ready = is_ready(statuses, purpose=purpose)
    well = all(status.state == "running" for status in statuses)
    return {
        "status": "not ready" if not ready else "ready" if well else "degraded",
        "lanes": {status.lane: _plain(status, at=at, words=words) for status in statuses},
    }


def _plain(status: Status, *, at: float, words: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "state": status.state,
        "since": iso(status.since),
        "for_s": round(max(0.0, at - status.since), 1),
        "restarts": status.restarts,
    }
    if status.error:
        plain |= {"error": status.error, "why": status.why if words else "the log of the job says it"}
    if status.retry_at is not None:
        plain["retry_in_s"] = round(max(0.0, status.retry_at - at), 1)
    return plain


def iso(at: float) -> str:
    """A time in seconds since 1970 as ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
