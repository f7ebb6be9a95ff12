"""Rejected records, written and read here only: the original key, value and headers, and in further headers why and from where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

from streaming.config.load import Config
from streaming.kafka import write
from streaming.records.events import HEADERS as HEADERS_TYPE
from streaming.records.predictions import TIMESTAMP_FORMAT, Place

#: The names of the headers that every rejected record has, behind those of the original record, in this order.
HEADERS: Final = ("reason", "error", "source_topic", "source_partition", "source_offset", "lane")

#: A longer error is cut: it names fields of the schema, of which there may be thousands.
_ERROR_LETTERS: Final = 2000
#: What the lengths around one header take (two varints of five bytes), and all our own headers but the error: nine names (110 bytes), a topic
#: (249), numbers and words (120), and the lengths around them.
_AROUND_HEADER: Final = 10
_OWN_HEADERS: Final = 600


@dataclass(frozen=True)
class Rejection:
    """What the headers of a rejected record say."""

    reason: str
    error: str
    #: Where the original record stood.
    place: Place
    #: The lane that refused it.
    lane: str


@dataclass(frozen=True)
class _Kept:
    """What there is room for of an original record. `cut`: the names of the parts that are not whole."""

    key: Column
    value: Column
    headers: Column
    cut: Column


def record(config: Config, *, source: Column, problem: Column, lane: str) -> Column:
    """The Kafka record that rejects another one, STRUCT<topic, key, value, headers>, no longer than the producer may send.

    `source`: the original record as :func:`streaming.records.events.original` gives it; `problem`: STRUCT<reason, error>.
    The original's own headers stand first: of two with one name the later counts, so no producer can speak for the service.
    What does not fit is cut; then `truncated` names the parts that are not whole (value, key, headers), and `key_length` and
    `value_length` say how many bytes there were.
    """
    room = write.room(config.kafka)
    letters = min(_ERROR_LETTERS, room // 16)
    kept = _fitting(source, max(0, room - _OWN_HEADERS - 4 * letters))
    said = _headers(
        {
            "reason": problem["reason"],
            "error": F.substring(problem["error"], 1, letters),
            "source_topic": source["topic"],
            "source_partition": source["partition"],
            "source_offset": source["offset"],
            "source_timestamp": F.date_format(source["timestamp"], TIMESTAMP_FORMAT),
            "lane": F.lit(lane),
        }
    )
    lengths = {"key_length": _bytes_in(source["raw_key"]), "value_length": _bytes_in(source["raw_value"])}
    about_cut = F.when(F.size(kept.cut) > 0, _headers({"truncated": F.concat_ws(",", kept.cut), **lengths})).otherwise(_none())
    return F.struct(
        F.lit(config.predictions.rejected_topic).alias("topic"),
        kept.key.alias("key"),
        kept.value.alias("value"),
        F.concat(kept.headers, said, about_cut).alias("headers"),
    )


def _fitting(source: Column, space: int) -> _Kept:
    """As much of a record as `space` bytes hold: a quarter for its headers, all or none of them, a quarter for its key, and the rest for the value."""
    share = space // 4
    key, value, headers = source["raw_key"], source["raw_value"], F.coalesce(source["headers"], _none())
    headers_take = F.aggregate(
        headers, F.lit(0), lambda sum, header: sum + F.octet_length(header["key"]) + _bytes_in(header["value"]) + _AROUND_HEADER
    )
    headers_fit = headers_take <= share
    left = F.lit(space) - F.when(headers_fit, headers_take).otherwise(0) - F.least(_bytes_in(key), F.lit(share))
    whole = {"value": _bytes_in(value) <= left, "key": _bytes_in(key) <= share, "headers": headers_fit}
    return _Kept(
        key=F.substring(key, 1, share),
        value=F.substring(value, F.lit(1), left),
        headers=F.when(headers_fit, headers).otherwise(_none()),
        cut=F.array_compact(F.array(*(F.when(~fits, name) for name, fits in whole.items()))),
    )


def _none() -> Column:
    return F.array().cast(HEADERS_TYPE)


def _bytes_in(value: Column) -> Column:
    return F.coalesce(F.octet_length(value), F.lit(0))


def _headers(values: Mapping[str, Column]) -> Column:
    return F.array(
        *(F.struct(F.lit(name).alias("key"), text.cast("string").cast("binary").alias("value")) for name, text in values.items())
    )


def parse(headers: Iterable[tuple[str, bytes | None]]) -> Rejection | None:
    """What the headers of a record say, of two with one name the later; None when it is no rejected record."""
    said = {name: "" if text is None else text.decode(errors="replace") for name, text in headers}
    if not set(HEADERS) <= set(said):
        return None
    place = Place(said["source_topic"], int(said["source_partition"]), int(said["source_offset"]))
    return Rejection(said["reason"], said["error"], place, said["lane"])


def rejects(place: Place, *, lane: str) -> Column:
    """True for the rejected records of one original record; a frame with `headers` is asked. Of two headers with one name the later counts."""
    wanted = {"source_topic": place.topic, "source_partition": str(place.partition), "source_offset": str(place.offset), "lane": lane}
    return reduce(Column.__and__, (F.coalesce(header(name) == text, F.lit(False)) for name, text in wanted.items()))


def header(name: str) -> Column:
    """What the last header of this name says, as text; null when there is none. Those of the original record stand first: they say nothing."""
    return F.try_element_at(F.filter("headers", lambda h: h["key"] == name), F.lit(-1))["value"].cast("string")
