"""What the audit log says of the API: each look for a new version, and how much each caller had predicted.

A line for each request would cost more than the prediction. So requests are counted in memory, by caller, model and
version, and a line is written for each such group once a minute and at the end: a crash loses the counts of a minute.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from streaming.api.served import Refreshed, Served
from streaming.runtime.audit import Act, AuditLog

#: How often counts become lines, in seconds.
EVERY_S: Final = 60.0
#: More groups than this are written at once, so that memory is bounded whoever asks.
_MOST_GROUPS: Final = 1_000


class Trail:
    """The counts since they were written last, and the log they go to. Without a log nothing is kept."""

    def __init__(self, log: AuditLog | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._began, self._since = clock(), datetime.now(UTC)
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    def predicted(self, actor: str, served: Served, answers: Sequence[Mapping[str, object]]) -> None:
        """Count one request and its rows."""
        self.count(actor, served, rows=len(answers), errors=sum("error" in answer for answer in answers))

    def count(self, actor: str, served: Served, *, rows: int, errors: int) -> None:
        """Count one request."""
        if self._log is None:
            return
        with self._lock:
            for what, n in (("requests", 1), ("rows", rows), ("errors", errors)):
                self._counts[actor, served.name, served.version, what] += n

    def due(self) -> bool:
        """True when there are counts that are to be written now."""
        return bool(self._counts) and (self._clock() - self._began >= EVERY_S or len(self._counts) > 3 * _MOST_GROUPS)

    def flush(self) -> None:
        """Write what was counted. Counts that cannot be written are in the service's own log, and lost otherwise."""
        with self._lock:
            counts, since = self._counts, self._since
            self._counts, self._began, self._since = Counter(), self._clock(), datetime.now(UTC)
        if self._log is None:
            return
        for actor, name, version in dict.fromkeys(group[:3] for group in counts):
            numbers = {what: counts[actor, name, version, what] for what in ("requests", "rows", "errors")}
            about = Act("predict", f"model {name} version {version}", actor, more={"since": since.isoformat(timespec="seconds"), **numbers})
            self._log.note(about, result="done")

    def refreshed(self, actor: str, before: Served | None, refresh: Callable[[], Refreshed]) -> Refreshed:
        """Look for a new version and record what came of it. StateError, and nothing is done, when that cannot be recorded."""
        if self._log is None or before is None:
            return refresh()
        act = Act("reload", f"model {before.name}", actor, before=_version(before))
        self._log.append(act, result="begun")
        outcome = refresh()
        act.after = _version(outcome.served)
        refused = f"refused: {outcome.error}"
        self._log.note(act, result=refused if outcome.error is not None else "done" if outcome.changed else "nothing new")
        return outcome


def _version(served: Served) -> str:
    return served.version if served.sha256 is None else f"{served.version} sha256 {served.sha256}"
