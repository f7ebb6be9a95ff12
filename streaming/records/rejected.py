"""Rejected records, written and read here only: the original key and value bytes, and in the headers why and from where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

from streaming.records.predictions import Place

#: The names of the headers, in the order in which they stand.
HEADERS: Final = ("reason", "error", "source_topic", "source_partition", "source_offset", "lane")


@dataclass(frozen=True)
class Rejection:
    """What the headers of a rejected record say."""

    reason: str
    error: str
    #: Where the original record stood.
    place: Place
    #: The lane that refused it.
    lane: str


def record(topic: str, *, source: Column, reason: Column, error: Column, lane: str) -> Column:
    """The Kafka record that rejects another one, STRUCT<topic, key, value, headers>.

    `source`: a struct with topic, partition, offset, raw_key and raw_value of the original record.
    """
    values = {
        "reason": reason,
        "error": error,
        "source_topic": source["topic"],
        "source_partition": source["partition"],
        "source_offset": source["offset"],
        "lane": F.lit(lane),
    }
    headers = F.array(*(F.struct(F.lit(name).alias("key"), _bytes(values[name]).alias("value")) for name in HEADERS))
    return F.struct(
        F.lit(topic).alias("topic"), source["raw_key"].alias("key"), source["raw_value"].alias("value"), headers.alias("headers")
    )


def parse(headers: Iterable[tuple[str, bytes | None]]) -> Rejection | None:
    """What the headers of a record say; None when it is no rejected record."""
    said = {name: "" if text is None else text.decode() for name, text in headers}
    if not set(HEADERS) <= set(said):
        return None
    place = Place(said["source_topic"], int(said["source_partition"]), int(said["source_offset"]))
    return Rejection(said["reason"], said["error"], place, said["lane"])


def rejects(place: Place, *, lane: str) -> Column:
    """True for the rejected records of one original record; a frame with `headers` is asked."""
    wanted = {"source_topic": place.topic, "source_partition": str(place.partition), "source_offset": str(place.offset), "lane": lane}
    named = F.transform("headers", lambda header: F.concat(header["key"], F.lit("="), header["value"].cast("string")))
    texts = F.array(*(F.lit(f"{name}={text}") for name, text in wanted.items()))
    return F.forall(texts, lambda text: F.array_contains(named, text))


def _bytes(value: Column) -> Column:
    return value.cast("string").cast("binary")
