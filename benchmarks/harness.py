"""What the benchmarks share: a broker of their own, the churn pipeline, the real job as a process, and the topics read back.

Each run has a new broker in a new folder, which is gone afterwards; the pipeline stays in `home` and is trained once.
Every topic is stamped by the broker when it appends (LogAppendTime), to the millisecond: that clock ends each measurement.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import prepare
from benchmarks.running import Stopped
from benchmarks.systems.base import Place
from streaming.demo import churn, traffic
from streaming.embedded.broker import running_broker
from streaming.runtime import jars

PARTITIONS = 2
#: How long the job may take to start, or to answer what it has been sent.
_PATIENCE_S = 300.0

EVENTS, PREDICTIONS, REJECTED, SHADOW, LABELS = "customers", "churn.predictions", "churn.rejected", "churn.shadow", "churn.labels"


def options(description: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--home", type=Path, default=Path(".cache/benchmarks"), help="where the trained pipeline is kept for the next run")
    return parser


def load(when: str) -> None:
    """Print how busy the machine is: figures from a busy machine are not worth much."""
    one, five, fifteen = os.getloadavg()
    print(f"load average at the {when}: {one:.2f} {five:.2f} {fifteen:.2f} on {os.cpu_count()} cores", flush=True)


class Sink(Producer):
    """A confluent producer with the two calls that `streaming.demo.traffic` makes: fast enough not to be what is measured."""

    def send(self, topic: str, *, key: bytes, value: bytes | None) -> None:
        """Hand over one record; waits while the queue is full."""
        while True:
            try:
                self.produce(topic, key=key, value=value)
                break
            except BufferError:
                self.poll(0.05)
        self.poll(0)


@dataclass(frozen=True)
class Bench:
    """A broker that runs, and the folders of this run."""

    servers: str
    folder: Path
    home: Path

    def configure(self, *, mode: str, trigger: str, learn: bool = False) -> Path:
        """Write the demo's configuration with these settings, train its pipeline if it is not there, and create the topics."""
        text = jars.conf_file("demo.yaml").read_text()
        tree = yaml.safe_load(text.replace("${env:DEMO_BROKER}", self.servers).replace("${env:DEMO_HOME}", str(self.home)))
        tree["score"] = {"mode": mode, "trigger": trigger}
        tree["state"], tree["store"]["path"] = str(self.folder / "state"), str(self.folder / "predictions.db")
        if not learn:
            del tree["learners"], tree["labels"], tree["predictions"]["shadow_topic"]
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(tree, sort_keys=False))
        prepare.ready(self.home)
        create_topics(self.servers, EVENTS, PREDICTIONS, REJECTED, SHADOW, LABELS)
        return path

    @contextmanager
    def job(self, path: Path, *lanes: str) -> Iterator[Job]:
        """The real command `streaming serve`, ready to score, ended in any case."""
        log = path.with_suffix(".log")
        with log.open("wb") as target:
            command = [sys.executable, "-m", "streaming", "-v", "serve", str(path), "--lanes", ",".join(lanes)]
            process = subprocess.Popen(command, stdout=target, stderr=subprocess.STDOUT)
        job = Job(process, log)
        try:
            job.wait_for(lambda: "started name=" in log.read_text())
            yield job
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
            if process.poll() is None:
                process.kill()
                process.wait()


@dataclass(frozen=True)
class Job:
    """A running job."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Return when `ready` says so. Stopped, with the job's last words, when the job ends or takes too long."""
        deadline = time.monotonic() + _PATIENCE_S
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(self.log.read_text().splitlines()[-8:])
                raise Stopped(f"the job {'ended' if self.process.poll() is not None else 'is too slow'}; its last words:\n{last}")
            time.sleep(0.2)


@contextmanager
def bench(home: Path) -> Iterator[Bench]:
    """A new broker in a new folder for the length of a `with`."""
    # A benchmark that is told to stop takes its job, its broker and its folder with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder = Path(tempfile.mkdtemp(prefix="streaming-bench-"))
    try:
        with running_broker(data=folder / "kafka", heap_mb=768) as broker:
            yield Bench(broker.bootstrap_servers, folder, home.absolute())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def topics_of(place: Place) -> tuple[str, ...]:
    """What a system reads and writes: its events first."""
    return place.events, place.out, f"{place.out}.rejected", f"{place.out}.shadow", place.labels


def create_topics(servers: str, *names: str, partitions: int = PARTITIONS) -> None:
    """Create topics whose records carry the time at which the broker appended them."""
    stamped = {"message.timestamp.type": "LogAppendTime"}
    new = [NewTopic(name, num_partitions=partitions, replication_factor=1, config=stamped) for name in names]
    admin = AdminClient(client(servers))  # named: its answers come only while it lives
    for made in admin.create_topics(new).values():
        made.result()
    reader, deadline = consumer(servers), time.monotonic() + 30.0
    for name in names:
        while not _led(reader, name):  # a new topic has no leader for a moment
            if time.monotonic() > deadline:
                raise Stopped(f"{name}: the new topic has no leader after 30 s")
            time.sleep(0.05)


def _led(reader: Consumer, topic: str) -> bool:
    try:
        return len(ends(reader, topic)) > 0
    except KafkaException:
        return False


def client(servers: str) -> dict[str, Any]:
    """Settings of every client. Log level 2: a broker that stops under an idle client is no news here."""
    return {"bootstrap.servers": servers, "log_level": 2}


def consumer(servers: str) -> Consumer:
    """A consumer that is told what to read and commits nothing."""
    return Consumer({**client(servers), "group.id": "benchmarks", "enable.auto.commit": False})


def ends(reader: Consumer, topic: str) -> list[int]:
    """The offset after the last record of each partition."""
    partitions = len(reader.list_topics(topic, timeout=30).topics[topic].partitions)
    return [reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1] for partition in range(partitions)]


def count(reader: Consumer, *topics: str) -> int:
    """How many records the topics hold."""
    return sum(sum(ends(reader, topic)) for topic in topics)


def records(servers: str, topic: str, *, since: Sequence[int] | None = None) -> Iterator[Message]:
    """All records that the topic holds now, from these offsets on."""
    reader = consumer(servers)
    last = ends(reader, topic)
    first = since or [0] * len(last)
    reader.assign([TopicPartition(topic, partition, offset) for partition, offset in enumerate(first)])
    left = sum(last) - sum(first)
    while left > 0:
        messages = reader.consume(min(left, 10_000), timeout=30)
        if not messages:
            raise Stopped(f"{topic}: {left} records did not come within 30 s")
        left -= len(messages)
        yield from messages
    reader.close()


class _Forgotten(dict[Any, Any]):
    """Keeps nothing: what the demo remembers of each event to compare models would fill the memory of a long run."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Traffic:
    """Churn events at a steady rate, their labels a second later; one event in 251 is broken, as in the demo."""

    def __init__(self, servers: str) -> None:
        self.sent, self.stop = traffic.Sent(truth=_Forgotten()), threading.Event()
        self._sink, self._reader = Sink({**client(servers), "linger.ms": 0}), consumer(servers)
        self._stream = churn.stream(prepare.SEED, start=datetime.now(UTC), late=churn.LateLabels(mean_s=1.0, max_s=4.0))

    def run(self, *, rate: int, seconds: float) -> None:
        """Send for so long; returns when the broker has it all."""
        sink: Any = self._sink
        traffic.produce(sink, traffic.Topics(EVENTS, LABELS), self._stream, rate=rate, seconds=seconds, sent=self.sent, stop=self.stop)

    def answered(self) -> bool:
        """True when every event sent so far has its prediction or its rejection."""
        return count(self._reader, PREDICTIONS, REJECTED) >= self.sent.total


def lanes(*, learn: bool) -> Iterable[str]:
    """The lanes that a run has work for."""
    return ("score", "store", "learn") if learn else ("score", "store")
