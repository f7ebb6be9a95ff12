"""A stop between two batches where that can be had, and never later than it may be."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streaming.job import stop as stopping
from streaming.job.stop import is_between_batches
from streaming.job.supervise import Lane, Supervised, Supervisor


class Query:
    """A query that reports a batch after some looks, or never."""

    def __init__(self, *, reports_after: int | None = None, busy: bool = True) -> None:
        self.looks, self.reports_after, self.busy, self.stopped_at = 0, reports_after, busy, 0
        self.isActive = True
        self._jsq = self

    @property
    def status(self) -> dict[str, bool]:
        return {"isTriggerActive": self.busy}

    def recentProgress(self) -> list[Any]:
        self.looks += 1
        if self.reports_after is None or self.looks <= self.reports_after:
            return []
        return [SimpleNamespace(timestamp=lambda: "2026-01-01T00:00:00.000Z", json=lambda: '{"timestamp": "2026-01-01T00:00:00.000Z"}')]

    def stop(self) -> None:
        self.isActive, self.stopped_at = False, self.looks


def lane(query: Query, *, trigger_s: float | None = None, began_s_ago: float = 0.0) -> Supervised:
    supervised = Supervised(Lane("score", "t", cast(Any, None), trigger_s=trigger_s))
    supervised.query = cast(Any, query)
    supervised.batch_began = time.monotonic() - began_s_ago
    return supervised


@pytest.mark.parametrize(
    ("query", "trigger_s", "began_s_ago", "now"),
    [
        (Query(busy=False), None, 0.0, True),  # a micro-batch lane that waits for its trigger
        (Query(), None, 0.0, False),  # inside a micro-batch
        (Query(reports_after=0), None, 0.0, True),  # one has just ended
        (Query(), 60.0, 57.0, False),  # real-time mode, the boundary is near
        (Query(busy=False), 60.0, 57.0, False),  # what Spark says of triggers says nothing there
        (Query(), 60.0, 10.0, True),  # too far away: no use waiting
        (Query(), 60.0, 60.3, False),  # it is being committed
        (Query(reports_after=0), 60.0, 60.4, True),
    ],
)
def test_when_to_stop(query: Query, trigger_s: float | None, began_s_ago: float, now: bool) -> None:
    supervised = lane(query, trigger_s=trigger_s, began_s_ago=began_s_ago)
    assert is_between_batches(supervised, time.monotonic() + 5.0) is now


def test_nobody_is_waited_for_beyond_the_deadline() -> None:
    assert is_between_batches(lane(Query()), time.monotonic() - 0.001)


def test_lanes_are_stopped_each_at_its_own_boundary() -> None:
    store, score = Query(reports_after=2), Query(reports_after=5)
    supervisor = Supervisor([], on_failure="continue", is_alive=lambda: True)
    supervisor.lanes = [lane(store), lane(score, trigger_s=1.0)]
    stopping.stop(supervisor, within_s=30.0)
    assert (store.stopped_at, score.stopped_at) == (3, 6)
    assert {each.status.state for each in supervisor.lanes} == {"stopped"}


def test_after_a_failure_nobody_waits() -> None:
    supervisor = Supervisor([], on_failure="continue", is_alive=lambda: True)
    supervisor.lanes = [lane(Query()), lane(Query(), trigger_s=60.0)]
    began = time.monotonic()
    stopping.stop(supervisor)
    assert time.monotonic() - began < 5.0
