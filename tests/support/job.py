"""The real job in a process of its own, real events, and what has to be true of what comes out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

#: A job may take this long to start and to answer on a busy machine with two cores.
PATIENCE_S = 240.0


@dataclass
class Job:
    """`streaming serve CONFIG`, started and killed as often as a test likes. Its output is in `log`."""

    config: Path
    lanes: str | None = None
    log: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.log = self.config.with_suffix(f".{self.lanes or 'all'}.log")

    def start(self) -> Job:
        command = [sys.executable, "-m", "streaming", "serve", str(self.config), *(["--lanes", self.lanes] if self.lanes else [])]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        return self

    def wait_started(self) -> Job:
        started = self.text().count("started name=")
        wait_until(lambda: self.text().count("started name=") > started or self.process.poll() is not None, "the job started")
        assert self.process.poll() is None, self.text()
        return self

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Wait until something is true, and fail at once when the job has died; whoever fails shows what the job said last."""
        try:
            wait_until(lambda: true() or self.process.poll() is not None, what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.text()[-6000:]}") from late
        assert true(), f"the job ended before: {what}\n{self.text()[-3000:]}"

    def kill(self) -> None:
        """SIGKILL to the job and its JVM, as a power cut would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as a supervisor would; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def wait_exit(self) -> int:
        return self.process.wait(PATIENCE_S)

    def supervised_until(self, true: Callable[[], Any], what: str) -> None:
        """Wait as a supervisor would: a job that ends with "try again" is started again, with anything else the test ends."""

        def look() -> bool:
            if self.process.poll() is not None:
                assert self.process.returncode == 75, f"exit code {self.process.returncode}: {self.text()[-3000:]}"
                self.start().wait_started()
            return bool(true())

        wait_until(look, what)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@contextmanager
def running(config: Path, lanes: str | None = None) -> Iterator[Job]:
    """A job that is dead when the block ends, whatever happened in it."""
    job = Job(config, lanes).start()
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.kill()


def wait_until(true: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(0.25)


class Tail:
    """Every record that stands on some topics, in the order they were seen; each look fetches only what came since the last."""

    def __init__(self, servers: str, topics: tuple[str, ...]) -> None:
        self.records: list[Any] = []
        self._consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, request_timeout_ms=30_000)
        self._parts = [TopicPartition(topic, p) for topic in topics for p in self._consumer.partitions_for_topic(topic) or ()]
        self._consumer.assign(self._parts)
        self._consumer.seek_to_beginning()
        _OPEN.append(self._consumer)

    def look(self) -> list[Any]:
        ends = self._consumer.end_offsets(self._parts)
        while any(self._consumer.position(part) < end for part, end in ends.items()):
            for batch in self._consumer.poll(timeout_ms=500, max_records=10_000).values():
                self.records += batch
        return self.records


_OPEN: list[KafkaConsumer] = []
#: One consumer for each set of topics: a test looks several times a second, and a new consumer costs more than what it reads.
_tail = cache(Tail)


def close_tails() -> None:
    """Let go of the broker, before it is stopped."""
    _tail.cache_clear()
    _outcome.cache_clear()
    while _OPEN:
        _OPEN.pop().close()


def read_all(servers: str, *topics: str) -> list[Any]:
    """Every record that stands on the topics now."""
    return list(_tail(servers, topics).look())


def send(servers: str, topic: str, records: list[tuple[bytes | None, bytes | None]], *, per_s: float | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=5)
    began = time.monotonic()
    try:
        for i, (key, value) in enumerate(records):
            producer.send(topic, key=key, value=value)
            if per_s is not None and (ahead := began + i / per_s - time.monotonic()) > 0.005:
                time.sleep(ahead)
        producer.flush()
    finally:
        producer.close()


@dataclass(frozen=True)
class Outcome:
    """What stands on the output topics."""

    #: event_id -> its predictions, one for each time it was scored, with the record's timestamp.
    predictions: dict[str, list[tuple[dict[str, Any], int]]]
    #: event_id -> headers of its rejected records.
    rejected: dict[str, list[dict[str, str]]]

    def newest(self) -> dict[str, str]:
        """key -> event_id of the newest prediction: what the store must hold."""
        best: dict[str, tuple[Any, str]] = {}
        for event_id, scored in self.predictions.items():
            for prediction, _ in scored:
                _, partition, offset = event_id.rsplit(":", 2)
                order = (prediction["event_time"], int(partition), int(offset))
                if prediction["key"] not in best or order > best[prediction["key"]][0]:
                    best[prediction["key"]] = (order, event_id)
        return {key: event_id for key, (_, event_id) in best.items()}


def outcome(servers: str, config: dict[str, Any]) -> Outcome:
    """What stands on the output topics of the configuration now."""
    topics = config["predictions"]
    tails = [_tail(servers, (topics[name],)) for name in ("topic", "rejected_topic")]
    return _outcome(*tails, *(len(tail.look()) for tail in tails))


@lru_cache(maxsize=4)  # nothing is decoded again while nothing comes
def _outcome(predicted: Tail, refused: Tail, n_predicted: int, n_refused: int) -> Outcome:
    predictions: dict[str, list[Any]] = defaultdict(list)
    rejected: dict[str, list[Any]] = defaultdict(list)
    for record in predicted.records[:n_predicted]:
        if not record.value.startswith(b"{"):
            continue  # what a test wrote there to see it rejected
        prediction = json.loads(record.value)
        predictions[prediction["event_id"]].append((prediction, record.timestamp))
    for record in refused.records[:n_refused]:
        headers = {name: value.decode() for name, value in record.headers}
        rejected[":".join(headers[f"source_{part}"] for part in ("topic", "partition", "offset"))].append(headers)
    return Outcome(predictions, rejected)


def write_config(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(tree))
    return path
