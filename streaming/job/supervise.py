"""Lanes under supervision, each by itself: one that dies is started again, or stays down, while the others go on.

A lane that dies of something that may pass (a broker, a database, anything unknown) is started again from its
checkpoint after growing pauses. One that dies of something that somebody has to mend stays down, loudly. The job ends
when the lane that it is for is down, when all are, or, if so configured, with the first death.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from py4j.protocol import Py4JError
from pyspark.sql.streaming.query import StreamingQuery

from streaming.errors import BrokerUnavailable, LaneDied, StoreUnavailable, StreamingError, TerminalError
from streaming.job import failures
from streaming.monitor import status
from streaming.monitor.counts import PendingCounts
from streaming.monitor.status import Status

log = logging.getLogger(__name__)

#: Starts a lane's query from its checkpoint. It is given a function for the original exception of a failed batch, whose
#: type would be lost on its way through the JVM.
Begin = Callable[[Callable[[BaseException], None]], StreamingQuery]

#: A lane that stays down is named again this often: whoever looks at the newest lines of the log must see it.
_REMIND_EVERY_S: Final = 600.0


@dataclass(frozen=True)
class Lane:
    """What a lane is: its name, the topic whose lag tells how far behind it is, and how it is started, as often as it takes."""

    name: str
    topic: str
    begin: Begin
    #: The job is for this lane: the pauses stay short, and without it there is no job.
    vital: bool = False
    #: How long a batch of real-time mode lasts, in seconds; None: a micro-batch, over when its records are.
    trigger_s: float | None = None
    #: Rejected records by reason, where the lane's query does not count them itself.
    rejected: PendingCounts = field(default_factory=PendingCounts)


class Supervised:
    """One lane with its query and its status. Not thread-safe: one thread looks."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.query: StreamingQuery | None = None
        self.status = Status(lane.name, "starting", time.time())
        #: Spark's timestamp of the newest report of the query; empty before the first. And when the batch after it began, by `time.monotonic`.
        self.seen_at = ""
        self.batch_began = 0.0
        #: Whether the query has finished a batch with records in it.
        self.has_advanced = False
        self._attempt: Future[StreamingQuery] | None = None
        self._failed: list[BaseException] = []
        self._deaths = 0
        # Pauses are measured by a clock that nobody sets; only what people read has the time of day.
        self._began = self._due = self._remind = 0.0

    def begin(self, pool: ThreadPoolExecutor) -> None:
        """Try to start the lane, beside everything else: a database that does not answer takes its time to say so."""
        self._failed = failed = list[BaseException]()
        self.query, self.seen_at, self.has_advanced = None, "", False
        self.status = replace(self.status, state="starting", retry_at=None)
        self._attempt = pool.submit(self.lane.begin, failed.append)

    def look(self, pool: ThreadPoolExecutor) -> StreamingError | None:
        """Bring the status up to date; the error of a lane that has died since the last look."""
        match self.status.state:
            case "starting":
                return self._look_at_start()
            case "running" if self.query is not None and not self.query.isActive:
                return self._died(self._cause(self.query))
            case "waiting" if time.monotonic() >= self._due:
                self.status = replace(self.status, restarts=self.status.restarts + 1)
                self.begin(pool)
            case "down" if time.monotonic() >= self._remind:
                self._remind = time.monotonic() + _REMIND_EVERY_S
                log.error("lane=%s state=down since=%s: %s", self.lane.name, status.iso(self.status.since), self.status.why)
        return None

    def settle(self) -> None:
        """Wait until no attempt is under way."""
        if self._attempt is not None and self._attempt.exception() is None:
            self.query = self._attempt.result()
        self._attempt = None

    def stopped(self) -> None:
        """The job has stopped the query."""
        self.status = self.status.now("stopped", time.time())

    def _look_at_start(self) -> StreamingError | None:
        if self._attempt is not None:
            if not self._attempt.done():
                return None
            attempt, self._attempt = self._attempt, None
            if (failed := attempt.exception()) is not None:
                return self._died(failures.of_start(self.lane.name, failed))
            self.query, self._began = attempt.result(), time.monotonic()
            self.batch_began = self._began
        if self.query is None:
            return None
        if not self.query.isActive:
            return self._died(self._cause(self.query))
        if not self.status.error or self._is_proven():
            self._runs()
        return None

    def _is_proven(self) -> bool:
        """A lane that has died before runs again when it has finished a batch, or has lived for a while without one."""
        return bool(self.seen_at) or time.monotonic() - self._began >= status.PROVEN_AFTER_S

    def _runs(self) -> None:
        self.status = replace(self.status.now("running", time.time()), error="", why="")
        if self.status.restarts:
            log.info("lane=%s state=running restarts=%d", self.lane.name, self.status.restarts)

    def _cause(self, query: StreamingQuery) -> StreamingError:
        first = next((error for error in self._failed if isinstance(error, StreamingError)), None)
        return failures.explain(self.lane.name, query) if first is None else type(first)(f"lane {self.lane.name}: {first}")

    def _died(self, error: StreamingError) -> StreamingError:
        recovered = self.has_advanced or (self._began > 0.0 and time.monotonic() - self._began >= status.STEADY_S)
        self._deaths = 1 if recovered else self._deaths + 1
        self._began = 0.0
        # While the attempts fail one after the other, "since" stays the time of the first death.
        since = self.status.since if self.status.error else time.time()
        state: Literal["down", "waiting"] = "down" if isinstance(error, TerminalError) else "waiting"
        self.status = replace(self.status, state=state, since=since, error=type(error).__name__, why=" ".join(str(error).split()))
        if state == "waiting":
            pause = status.pause_s(self._deaths, longest=self._longest_pause_s(error))
            self._due = time.monotonic() + pause
            self.status = replace(self.status, retry_at=time.time() + pause)
        else:
            self._remind = time.monotonic() + _REMIND_EVERY_S
        return error

    def _longest_pause_s(self, error: StreamingError) -> float:
        short = self.lane.vital or isinstance(error, BrokerUnavailable | StoreUnavailable)
        return status.OUTAGE_PAUSE_S if short else status.UNKNOWN_PAUSE_S


class Supervisor:
    """The lanes of one job. `is_alive`: whether Spark itself still runs; without it no lane can be started again."""

    def __init__(self, lanes: Iterable[Lane], *, on_failure: Literal["continue", "stop"], is_alive: Callable[[], bool]) -> None:
        self.lanes = [Supervised(lane) for lane in lanes]
        self._ends_with_first = on_failure == "stop"
        self._is_alive = is_alive
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self.lanes)), thread_name_prefix="start-lane")

    def start(self) -> None:
        """Try to start every lane; whether it worked is seen by looking."""
        for lane in self.lanes:
            lane.begin(self._pool)

    def look(self) -> Sequence[Status]:
        """Look at every lane once. Raises the error that ends the job: of the lane it is for, of the last one, or of Spark."""
        for lane in self.lanes:
            try:
                error = lane.look(self._pool)
            except (Py4JError, OSError) as broken:
                error = LaneDied(f"Spark does not answer any more ({type(broken).__name__}); restart the job")
            if error is not None:
                self._judge(lane, error)
        return self.statuses

    @property
    def statuses(self) -> list[Status]:
        """What each lane does now."""
        return [lane.status for lane in self.lanes]

    def settle(self) -> None:
        """No lane is started any more; those that were being started are there."""
        self._pool.shutdown(wait=True)
        for lane in self.lanes:
            lane.settle()

    def _judge(self, lane: Supervised, error: StreamingError) -> None:
        if not self._is_alive():
            raise LaneDied(f"Spark has ended under the job ({error}); restart it") from error
        all_down = all(other.status.state == "down" for other in self.lanes)
        if self._ends_with_first or all_down or (lane.lane.vital and lane.status.state == "down"):
            raise error
        now = lane.status
        if now.state == "down":
            log.error("lane=%s state=down, the others go on; somebody has to mend this and restart the job: %s", now.lane, now.why)
        else:
            wait = max(0.0, (now.retry_at or 0.0) - time.time())
            log.warning("lane=%s state=waiting retry_in_s=%.0f: %s", now.lane, wait, now.why)
