"""Events for the live tests: what is sent, and what must become of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)

#: Ways to be wrong, and the reason each must be rejected with.
BROKEN: tuple[tuple[bytes | None, str], ...] = (
    (b"{not json", "malformed_json"),
    (b"\xff\xfe", "invalid_utf8"),
    (None, "null_value"),
    (b'{"at": "2026-01-01T00:00:00Z", "plan": "pro"}', "missing_key"),
    (b'{"id": "x", "at": "yesterday", "plan": "pro"}', "unparsable_time"),
    (b'{"id": "x", "at": "2026-01-01T00:00:00Z", "calls": "many"}', "wrong_type"),
    (b'{"id": "x", "at": "2026-01-01T00:00:00Z", "plan": "unheard of", "minutes": 1.0, "calls": 1}', "pipeline_failure"),
    (b'{"id": "x", "at": "2026-01-01T00:00:00Z", "plan": "pro", "calls": 1}', "pipeline_failure"),
    (b'{"id": "x", "at": "2026-01-01T00:00:00Z", "plan": null, "minutes": 1.0, "calls": 1}', "pipeline_failure"),
    (b'{"id": "x", "at": "2026-01-01T00:00:00Z"} {"id": "y"}', "malformed_json"),
)


def good(number: int, *, entities: int = 50) -> tuple[bytes, bytes]:
    """Event `number` as key and value."""
    key = f"c{number % entities}"
    event = {
        "id": key,
        "at": (START + timedelta(milliseconds=number)).isoformat(timespec="milliseconds"),
        "plan": ("basic", "plus", "pro")[number % 3],
        "minutes": float(number % 100),
        "calls": number % 7,
    }
    return key.encode(), json.dumps(event).encode()


def label(number: int, value: Any = None) -> tuple[bytes, bytes]:
    """The label of event `number`; `value`: instead of the truth."""
    key, event = good(number)
    truth = float(number % 100 > 50) if value is None else value
    return key, json.dumps({"id": key.decode(), "at": json.loads(event)["at"], "label": truth}).encode()


def mixed(n: int, *, broken_every: int = 97) -> list[tuple[bytes | None, bytes | None]]:
    """`n` events, every so often a broken one."""
    return [(b"broken", BROKEN[i // broken_every % len(BROKEN)][0]) if i % broken_every == broken_every - 1 else good(i) for i in range(n)]
