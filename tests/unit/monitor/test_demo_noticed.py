"""What the demo says of the monitor: how long after the drift, and which alarms were false."""

from __future__ import annotations

from datetime import UTC, datetime

from streaming.demo import churn, noticed, run

AT = datetime(2026, 5, 1, 12, 0, 10, tzinfo=UTC)


def test_alerts_are_told_from_the_drift_on_and_earlier_ones_are_false() -> None:
    alerts = [
        {"state": "raised", "at": "2026-05-01T12:00:04.000Z", "says": "early"},
        {"state": "raised", "at": "2026-05-01T12:00:17.500Z", "says": "data drift: monthly_charges"},
        {"state": "over", "at": "2026-05-01T12:00:30.000Z", "says": "over"},
    ]
    assert noticed.lines(alerts, drifted_at=AT) == [
        "6.0 s before it began: a false alarm: early",
        " 7.5 s after the drift began: data drift: monthly_charges",
    ]
    assert "noticed nothing" in noticed.lines([], drifted_at=AT)[0]


def test_prices_rise_from_that_event_on_and_nothing_else_changes() -> None:
    plain, dearer = (list(zip(range(40), churn.stream(1, start=AT), strict=False)) for _ in range(2))
    changed = list(zip(range(40), run._dearer((o for _, o in dearer), after=20), strict=False))
    for (i, before), (_, after) in zip(plain, changed, strict=True):
        different = {name for name in before.event if before.event[name] != after.event[name]}
        assert different == (set() if i < 20 else {"monthly_charges"})
        assert before.label == after.label
