"""Writes what a version of the service leaves behind, for the versions after it to go on with: `python -m tests.support.keep_version FILE`.

The file is a tar with a configuration, the state folder, the SQLite store, the model, and the records of every topic. It is
written once, by the real job of the version that it is named after, on a real broker; tests/live/test_kept_version.py goes on from there.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from kafka import KafkaAdminClient
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.sql import SparkSession

from streaming.embedded.broker import running_broker
from tests.support import events
from tests.support.job import PATIENCE_S, Job, read_all, send, wait_until

#: What stands for the folder that everything is in.
HERE = "@HERE@"
#: Partitions of each topic.
TOPICS = {"kept-events": 2, "kept-predictions": 2, "kept-shadow": 2, "kept-rejected": 1, "kept-labels": 2}
N = 120
LABELLED = 100
ENTITIES = 50


def tree(folder: str, servers: str) -> dict[str, Any]:
    """The configuration."""
    return {
        "name": "kept",
        "kafka": {"bootstrap_servers": servers},
        "events": {
            "topic": "kept-events",
            "schema": "id STRING, at STRING, plan STRING, minutes DOUBLE, calls INT",
            "key": "id",
            "time": "at",
        },
        "model": {"name": "churn", "version": "3", "uri": f"{folder}/model"},
        "score": {"mode": "microbatch"},
        "predictions": {"topic": "kept-predictions", "shadow_topic": "kept-shadow", "rejected_topic": "kept-rejected"},
        "store": {"kind": "sqlite", "path": f"{folder}/predictions.db"},
        "labels": {"topic": "kept-labels", "key": "id", "time": "at", "label": "label", "max_delay": "10 minutes"},
        "learners": [{"name": "online", "algorithm": "logistic_regression", "params": {"mini_batch": 1}, "window": 100}],
        "learn": {"trigger": "500 ms"},
        "state": f"{folder}/state",
    }


def create_topics(servers: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.create_topics({name: {"num_partitions": n, "replication_factor": 1} for name, n in TOPICS.items()})
    finally:
        admin.close()


def _train(path: Path) -> None:
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rows = [(("basic", "plus", "pro")[i % 3], float(i % 17), i % 5, float((i * 7) % 11 < 4)) for i in range(100)]
    stages = [
        StringIndexer(inputCol="plan", outputCol="plan_index", handleInvalid="keep"),
        VectorAssembler(inputCols=["plan_index", "minutes", "calls"], outputCol="features", handleInvalid="keep"),
        LogisticRegression(maxIter=3),
    ]
    data = spark.createDataFrame(rows, "plan STRING, minutes DOUBLE, calls INT, label DOUBLE").coalesce(1)
    Pipeline(stages=stages).fit(data).save(str(path))
    spark.stop()


def _run(folder: Path, servers: str) -> None:
    """Events and labels through the real job until all are learned and stored."""
    create_topics(servers)
    config = folder / "job.yaml"
    config.write_text(yaml.safe_dump(tree(str(folder), servers)))
    send(servers, "kept-events", [*(events.good(i) for i in range(N)), (b"broken", b"{not json")])
    send(servers, "kept-labels", [events.label(i) for i in range(LABELLED)])
    job = Job(config).start()

    def finished() -> bool:
        stored = Path(folder / "predictions.db").exists() and _count(folder / "predictions.db") == ENTITIES
        return stored and f"total={LABELLED}" in job.text()

    try:
        wait_until(lambda: finished() or job.process.poll() is not None, "everything is learned and stored", timeout_s=PATIENCE_S)
        assert job.stop() == 0, job.text()
    finally:
        job.kill()
    assert _count(folder / "predictions.db") == ENTITIES


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it into the one file that is kept
        return int(connection.execute("SELECT count(*) FROM predictions").fetchone()[0])


def _records(servers: str) -> dict[str, list[dict[str, Any]]]:
    def text(value: bytes | None) -> str | None:
        return None if value is None else base64.b64encode(value).decode()

    return {
        topic: [
            {
                "partition": r.partition,
                "timestamp": r.timestamp,
                "key": text(r.key),
                "value": text(r.value),
                "headers": [[n, text(v)] for n, v in r.headers],
            }
            for r in read_all(servers, topic)
        ]
        for topic in TOPICS
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, running_broker() as broker:
        folder = Path(temporary)
        _train(folder / "model")
        _run(folder, broker.bootstrap_servers)
        (folder / "topics.json").write_text(json.dumps(_records(broker.bootstrap_servers)))
        (folder / "job.yaml").write_text(yaml.safe_dump(tree(HERE, HERE)))
        with tarfile.open(sys.argv[1], "w:xz") as out:
            for name in ("job.yaml", "topics.json", "predictions.db", "model", "state"):
                out.add(folder / name, name, filter=lambda entry: None if "/logs" in entry.name else entry)


if __name__ == "__main__":
    main()
