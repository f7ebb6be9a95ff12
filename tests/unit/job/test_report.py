"""Reports are a courtesy: whatever keeps one from being made or told ends no lane and no stop."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streaming.errors import BrokerUnavailable, ConfigError
from streaming.job.report import Reporter
from streaming.job.supervise import Lane, Supervised
from streaming.monitor.metrics import JobMetrics
from streaming.monitor.progress import Progress

REPORT = {"timestamp": "2026-01-01T00:00:01.000Z", "batchId": 3, "numInputRows": 20, "sources": [{"endOffset": {"t": {"0": 20}}}]}


class Ends:
    def ends(self, topic: str) -> dict[int, int]:
        return {0: 25}

    def age_s(self, topic: str, read_to: Any) -> float:
        return 1.5

    def close(self) -> None:
        raise ConnectionRefusedError


class Silent(Ends):
    def ends(self, topic: str) -> dict[int, int]:
        raise BrokerUnavailable("away")


class Groups:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.committed, self.closed = error, [], False

    def commit(self, group: str, read_to: Any) -> None:
        if self.error is not None:
            raise self.error
        self.committed.append((group, read_to))

    def close(self) -> None:
        self.closed = True


def reporter(ends: Ends, groups: Groups) -> tuple[Reporter, list[Progress]]:
    told: list[Progress] = []
    metrics = JobMetrics(lambda: [], labels={})
    return Reporter("churn", cast(Any, ends), cast(Any, groups), metrics, told.append), told


def lane(*reports: dict[str, Any]) -> Supervised:
    entries = [SimpleNamespace(timestamp=lambda r=r: r["timestamp"], json=lambda r=r: json.dumps(r)) for r in reports]
    supervised = Supervised(Lane("store", "t", cast(Any, None)))
    supervised.query = cast(Any, SimpleNamespace(_jsq=SimpleNamespace(recentProgress=lambda: entries)))
    return supervised


def test_each_batch_is_told_once_and_committed() -> None:
    told_to, told = reporter(Ends(), groups := Groups())
    supervised = lane(REPORT, {**REPORT, "timestamp": "2026-01-01T00:00:02.000Z", "batchId": 4})
    supervised.lane.rejected.add({"not_a_prediction": 2})
    for _ in range(3):
        told_to.report(supervised)
    assert [(p.batch, p.lag_events, p.lag_s, p.rejected) for p in told] == [(3, 5, 1.5, 2), (4, 5, 1.5, 0)]
    assert groups.committed == [("churn-store", {"t": {0: 20}})]
    assert supervised.has_advanced


def test_a_clock_that_is_set_back_hides_no_batch() -> None:
    told_to, told = reporter(Ends(), groups := Groups())
    reports = [{**REPORT, "timestamp": f"2026-01-01T0{hour}:00:00.000Z", "batchId": n} for n, hour in enumerate((5, 6, 2, 3, 6))]
    supervised = lane()
    for n in range(1, len(reports) + 1):
        supervised.query = lane(*reports[:n]).query
        told_to.report(supervised)
    assert [progress.batch for progress in told] == [0, 1, 2, 3, 4]
    assert len(groups.committed) == 5


def test_a_broker_that_does_not_answer_costs_the_lag_alone(caplog: pytest.LogCaptureFixture) -> None:
    told_to, told = reporter(Silent(), Groups(ConfigError("not allowed")))
    for n in range(3):
        told_to.report(lane({**REPORT, "batchId": n}))
    assert [(p.rows, p.lag_events) for p in told] == [(20, None)] * 3
    assert caplog.text.count("not committed") == 1


def test_with_a_jvm_that_is_gone_everything_else_is_still_closed() -> None:
    told_to, told = reporter(Ends(), groups := Groups())
    broken = lane(REPORT)

    def gone() -> Any:
        raise ConnectionRefusedError

    cast(Any, broken.query)._jsq.recentProgress = gone
    told_to.report(broken)
    told_to.close()
    assert not told
    assert groups.closed
