"""Predictions in Redis: one hash per entity, `<prefix><key>`, one field per model, its value a JSON object.

    > HGETALL prediction:customer-17
    churn
    {"newest": "2024-01-31T12:00:00.000000Z/0000000003/0000000000000000042/2024-01-31T12:00:00.001000Z", "key": "customer-17", …}

The object has the fields of a stored row, times in ISO 8601 UTC, after one more: `newest`, text that sorts like the rows
do (:data:`streaming.records.predictions.NEWEST`). It is text because a Lua number holds no 64-bit offset. The comparison runs in a Lua
script, atomically, in the server. How durable an acknowledged write is, the server decides (appendfsync).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from json.encoder import encode_basestring as quoted
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import redis
from pyspark.sql import DataFrame, SparkSession

from streaming.config.stores import RedisSection
from streaming.errors import StoreError, StoreUnavailable
from streaming.records.predictions import STORED
from streaming.secrets import redact
from streaming.stores.base import LOOK_UP_S, doubles_text, iso_column, time_of
from streaming.stores.write_partitions import write_partitions

_COLUMNS: Final = tuple(STORED.fieldNames())
_HEAD: Final = '{"newest": "'
_TOKEN: Final = len("2024-01-31T12:00:00.000000Z/0000000003/0000000000000000042/2024-01-31T12:00:00.001000Z")
#: Rows per call of the script. Redis serves nobody else meanwhile: 500 take about a millisecond.
_CHUNK: Final = 500
#: KEYS: the hashes. ARGV: model and value of each. Digits stand at the same places in both tokens and all else is equal,
#: so the comparison does not depend on the server's locale.
_NEWEST_WINS: Final = f"""
local function token(value) return string.sub(value, {len(_HEAD) + 1}, {len(_HEAD) + _TOKEN}) end
for i, key in ipairs(KEYS) do
  local model, value = ARGV[2 * i - 1], ARGV[2 * i]
  local stored = redis.call('HGET', key, model)
  if stored and string.sub(stored, 1, {len(_HEAD)}) ~= '{_HEAD}' then
    return redis.error_reply('WRONGTYPE a value under the prefix was not written by this store')
  end
  if not stored or token(value) > token(stored) then redis.call('HSET', key, model, value) end
end
return #KEYS
"""
#: Error codes that a replay may cure: no room, loading, a standby, a failed disk write of the server.
_TRANSIENT: Final = ("OOM", "BUSY", "LOADING", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN", "UNBLOCKED")
_SECONDS: Final = 30


def open(section: RedisSection, spark: SparkSession) -> RedisStore:
    """The store that the configuration names. Does not connect yet."""
    return RedisStore(url=section.url.get_secret_value(), prefix=section.prefix)


@dataclass(frozen=True)
class RedisStore:
    """Hashes in a Redis server, written by the executors."""

    url: str = field(repr=False)
    prefix: str = "prediction:"

    def prepare(self) -> None:
        """Redis has no tables: check that the server answers, accepts the password and takes writes and scripts."""
        with _client(self.url) as client:
            client.ping()
            if client.role()[0] not in (b"master", "master"):
                raise StoreError(f"{_place(self.url)}: got a replica, expected the master; put the master's address into store.url")
            client.register_script(_NEWEST_WINS)(keys=[], args=[])

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        """Write the batch in chunks; the server has accepted all of them when this returns."""
        write_partitions(predictions, partial(_write, self.url, self.prefix))

    def get(self, key: str) -> list[dict[str, object]]:
        """The stored rows of one entity, models in name order."""
        with _client(self.url, seconds=LOOK_UP_S) as client:
            values = client.hgetall(self.prefix + key).values()
        return sorted(map(_row, values), key=lambda row: str(row["model"]))

    def durability(self) -> str:
        """What the server may lose of what it has acknowledged, in words: Redis answers before anything is on disk."""
        with _client(self.url, seconds=LOOK_UP_S) as client:
            try:
                own = client.config_get("append*", "save")
            except redis.ResponseError:  # a hosted server that keeps CONFIG to itself still tells this much
                own = {"appendonly": "yes" if client.info("persistence").get("aof_enabled") else "no"}
        return _durability({_word(key): _word(value) for key, value in own.items()})

    def count(self) -> int:
        """The number of rows that stand. Walks over all keys of the database (SCAN): for checks, not for every request."""
        literal = "".join(f"[{char}]" if char in "*?[" else "\\" + char if char in "\\]^" else char for char in self.prefix)
        total = 0
        with _client(self.url) as client:
            # SCAN may give a key twice.
            names = iter(set(client.scan_iter(match=literal + "*", count=1_000)))
            while chunk := list(islice(names, 1_000)):
                with client.pipeline(transaction=False) as pipeline:
                    for name in chunk:
                        pipeline.hlen(name)
                    total += sum(pipeline.execute())
        return total


def _word(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _durability(own: Mapping[str, str]) -> str:
    """In words: what a crash of the server may cost. Whatever it loses is on the topic: the store can be written anew from there."""
    anew = "what is lost is still on the topic, and can be written again (docs/operations.md, Rebuild)"
    if own.get("appendonly") == "yes":
        return {
            "always": "keeps what it acknowledges (appendfsync always)",
            "no": f"WARNING: may lose what the operating system has not written yet (appendfsync no); set it to everysec or always; {anew}",
        }.get(
            own.get("appendfsync", ""),
            f"may lose about a second of what it acknowledged when its machine crashes (appendfsync everysec); {anew}",
        )
    if own.get("save"):
        return (
            f"WARNING: keeps snapshots only (save {own['save']}): a crash loses all predictions since the last; set appendonly yes; {anew}"
        )
    return f"WARNING: keeps nothing (appendonly no, no snapshots): a restart empties it; set appendonly yes; {anew}"


def _write(url: str, prefix: str, batches: Iterator[pa.RecordBatch]) -> int:
    """One partition, over one connection, some hundred rows for each call of the script."""
    written = 0
    with _client(url) as client:
        script = client.register_script(_NEWEST_WINS)
        for batch in batches:
            rows = _values(batch)
            while chunk := list(islice(rows, _CHUNK)):
                script(keys=[prefix + key for key, _, _ in chunk], args=[part for _, *field in chunk for part in field])
                written += len(chunk)
    return written


def _values(batch: pa.RecordBatch) -> Iterator[tuple[str, str, str]]:
    """(key, model, JSON) of each row."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in ("event_time", "scored_at"):
        columns[name] = iso_column(columns[name])
    plain = [columns[name].to_pylist() for name in _COLUMNS]
    for key, model, event_time, partition, offset, event_id, version, value, probability, scored_at in zip(*plain, strict=True):
        # Written out field by field: three times as fast as json.dumps of a dictionary, and half of all the work here.
        yield (
            key,
            model,
            f'{_HEAD}{event_time}/{partition:010d}/{offset:019d}/{scored_at}", "key": {quoted(key)}, "model": {quoted(model)}, '
            f'"event_time": "{event_time}", "source_partition": {partition}, "source_offset": {offset}, "event_id": {quoted(event_id)}, '
            f'"model_version": {quoted(version)}, "prediction": {json.dumps(value)}, "probability": {doubles_text(probability) or "null"}, '
            f'"scored_at": "{scored_at}"}}',
        )


def _row(value: bytes | str) -> dict[str, object]:
    row: dict[str, Any] = json.loads(value)
    return {name: row[name] for name in _COLUMNS} | {"event_time": time_of(row["event_time"]), "scored_at": time_of(row["scored_at"])}


def _place(url: str) -> str:
    """Where the server is, without user and password."""
    parts = urlsplit(url)
    return f"Redis {parts.hostname or ''}:{parts.port or 6379}{parts.path}" if parts.scheme != "unix" else f"Redis {parts.path}"


@contextmanager
def _client(url: str, *, seconds: float = _SECONDS) -> Iterator[redis.Redis]:
    """A client with one connection of its own; the driver's errors become ours."""
    try:
        place = _place(url)
        client = redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds / 3)
    except ValueError:
        # Not chained: the message may quote the password.
        raise StoreError('store.url: not an address; expected "redis://:password@host:6379/0", rediss://… or unix://path') from None
    try:
        with closing(client):
            yield client
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError) as error:
        raise StoreError(f"{place}: the server refuses: {redact(str(error))}; check user and password in store.url") from error
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError) as error:
        raise StoreUnavailable(f"{place}: no answer: {redact(str(error))}; check that the server runs and start again") from error
    except redis.RedisError as error:
        text = redact(str(error))
        if isinstance(error, redis.exceptions.OutOfMemoryError) or text.startswith(_TRANSIENT):
            raise StoreUnavailable(f"{place}: {text}; start again when the server is well") from error
        raise StoreError(f"{place}: {text}; check the rights of the user, and that nothing else uses the prefix") from error
