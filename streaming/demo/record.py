"""Runs the demo's job once, briefly, and keeps the classes that its JVMs read: `python -m streaming.demo.record`."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import threading
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, Final

import yaml
from kafka import KafkaProducer
from pyspark import SparkContext

from streaming import config as cfg
from streaming.demo import churn
from streaming.embedded.broker import EmbeddedBroker
from streaming.errors import EnvironmentFailure, StreamingError
from streaming.job import service
from streaming.kafka import admin
from streaming.monitor.progress import Progress
from streaming.runtime import classes, jars, session
from streaming.training import run as training

_ROWS: Final = 2_000
_EVENTS: Final = 200
#: Each JVM writes its archive as it ends, in half a minute on a quiet machine; ten times that is no machine to wait for.
_WITHIN_S: Final = 300.0
#: Every lane has a batch behind it after some 15 s; what was not loaded by then is not worth waiting for.
_SERVE_S: Final = 60.0


def record(home: Path) -> None:
    """A training, and every lane until it has worked a batch off (or a minute); each JVM ends by itself, and writes on its way out."""
    broker = EmbeddedBroker(home / "kafka")
    try:
        config = _config(home, broker.start().bootstrap_servers)
        _train(config)
        _send(config)
        _serve(config)
        _end_spark()
        if not broker.stop(within_s=_WITHIN_S):
            raise EnvironmentFailure("the broker does not end")
    finally:
        broker.kill()


def _train(config: cfg.Config) -> None:
    assert config.train is not None
    slices = () if config.monitor is None else config.monitor.slices
    with session.running(config, delta=True) as spark:
        churn.write_training_table(config.train.data, _ROWS, seed=1)
        training.train(config.train, config.model, spark, source="demo.yaml", slices=slices)
        admin.create_topics(spark, config.kafka, dict.fromkeys(config.topics().values(), 1))


def _send(config: cfg.Config) -> None:
    assert config.labels is not None
    assert config.labels.topic is not None
    producer = KafkaProducer(bootstrap_servers=config.kafka.bootstrap_servers)
    stream = churn.stream(1, start=datetime.now(UTC), regime_at=lambda _: churn.BEFORE, late=churn.LateLabels(mean_s=1.0, max_s=4.0))
    for happened in islice(stream, _EVENTS):
        producer.send(config.events.topic, json.dumps(happened.event).encode())
        producer.send(config.labels.topic, json.dumps(happened.label).encode())
    producer.close()


def _serve(config: cfg.Config) -> None:
    stop, waits = threading.Event(), set(service.default_lanes(config))

    def seen(progress: Progress) -> None:
        if progress.rows:
            waits.discard(progress.lane)
        if not waits:
            stop.set()

    limit = threading.Timer(_SERVE_S, stop.set)
    limit.start()
    try:
        service.serve(config, stop=stop, on_progress=seen)
    finally:
        limit.cancel()


def _end_spark() -> None:
    """Spark's JVM goes when its input ends."""
    gateway: Any = SparkContext._gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(_WITHIN_S)


def _config(home: Path, servers: str) -> cfg.Config:
    """The demo's, in micro-batches: what they load is more than what real-time mode loads."""
    text = jars.conf_file("demo.yaml").read_text().replace("${env:DEMO_BROKER}", servers).replace("${env:DEMO_HOME}", str(home))
    return cfg.parse(yaml.safe_load(text) | {"score": {"mode": "microbatch"}, "learn": {"trigger": "1 second"}})


def main() -> None:
    """Make the archives, if one is missing. Whoever has none is only slower: a failure is told, and nothing more."""
    logging.basicConfig(level=logging.WARNING)
    if all(classes.archive(conf).is_file() for conf in jars.CONFS):
        return
    sys.stdout.write("keeping the classes that Spark and Kafka read, so that they start in half the time (about two minutes, once)\n")
    sys.stdout.flush()
    try:
        with tempfile.TemporaryDirectory(prefix="streaming-record-") as folder, classes.recorded(*jars.CONFS):
            record(Path(folder))
    except (StreamingError, TimeoutExpired) as failed:
        sys.stdout.write(f"not kept, everything works without: {failed}\n")


if __name__ == "__main__":
    main()
