"""The fields of the event behind a stored prediction, read again from the topic: the page fills its form with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from streaming.config.sections import Events
from streaming.errors import StateError
from streaming.records.predictions import Place


class Records(Protocol):
    """Reads one record by its place, see :class:`streaming.kafka.fetch.Fetcher`."""

    def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The record's value, or None when it is gone."""


class EventFields:
    """Fields of events of one topic. `events`: the section of the config, for the topic and the names of nested fields."""

    def __init__(self, events: Events, records: Records) -> None:
        self._events, self._records = events, records

    def of(self, event_id: str, names: Collection[str]) -> dict[str, Any]:
        """The values of those fields, null where the event has none. StateError with the reason when the event cannot be had."""
        try:
            place = Place.parse(event_id)
        except ValueError:
            raise StateError("the stored prediction names no event") from None
        if place.topic != self._events.topic:
            raise StateError("the stored prediction is of another topic's event")
        value = self._records.value(place.topic, place.partition, place.offset)
        if value is None:
            raise StateError("the event is no longer on the topic")
        try:
            event = json.loads(value)
        except ValueError:
            event = None
        if not isinstance(event, Mapping):
            raise StateError("the event is no JSON object")
        return {name: _at(event, self._events.columns.get(name, name)) for name in names}


def _at(event: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; null when there is none, and for what no form can show."""
    value: Any = event
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, str | int | float | bool) or value is None or _numbers(value) else None


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
