"""What runs every time and what waits for the campaign: on two cores the whole of every matrix takes too long."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def usual(cases: Iterable[Any], every_time: Collection[Any]) -> list[Any]:
    """All `cases` as parameters, those that are not `every_time` marked for the campaign."""
    unknown = set(every_time) - set(cases := list(cases))
    assert not unknown, f"no such cases: {unknown}"
    return [pytest.param(case, marks=() if case in every_time else pytest.mark.campaign) for case in cases]
