"""What STORE makes of what stands on the predictions topic: rows, rejected records with a count, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming import config as cfg
from streaming.embedded.broker import Broker
from streaming.kafka import read
from streaming.lanes import store
from streaming.learning import labels
from streaming.stores.memory import MemoryStore

STAMP = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
RECORD = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"


def prediction(n: int, **more: Any) -> bytes:
    fields = {
        "event_id": f"events:0:{n}",
        "key": f"c{n}",
        "event_time": "2026-01-02T02:00:00.000000Z",
        "model": "m",
        "model_version": "1",
        "prediction": 1.0,
    }
    return json.dumps({name: value for name, value in (fields | more).items() if value is not None}).encode()


def records(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    rows = [(b"k", value, "p", 0, i, STAMP, [("trace", b"1")]) for i, value in enumerate(values)]
    return spark.createDataFrame(rows, RECORD)


@pytest.fixture
def config(broker: Broker, topics: Callable[..., str]) -> cfg.Config:
    return cfg.parse(
        {
            "name": "t",
            "kafka": {"bootstrap_servers": broker.bootstrap_servers},
            "events": {"topic": "events", "key": "id", "schema": "id STRING"},
            "model": {"name": "m", "version": "1", "uri": "x"},
            "predictions": {"topic": "p", "rejected_topic": topics()},
            "store": {"kind": "sqlite", "path": "x"},
            "state": "x",
        }
    )


def upsert(rows: DataFrame, kept: MemoryStore, config: cfg.Config) -> Mapping[str, int]:
    """The batch, with the plans of a cluster; TimeoutError when it waits for what never comes."""
    spark = rows.sparkSession
    spark.conf.set("spark.sql.adaptive.enabled", "true")
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(store.upsert, rows, 0, store=kept, config=config).result(timeout=120).rejected
    finally:
        spark.conf.set("spark.sql.adaptive.enabled", "false")


def test_each_record_is_stored_rejected_with_a_count_or_says_nothing(spark: SparkSession, config: cfg.Config) -> None:
    ahead = (STAMP + timedelta(hours=1, seconds=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    values = [
        prediction(0),
        prediction(1, prediction=None, model_version=None),  # a champion that has learned nothing yet
        prediction(2, prediction=None),
        prediction(3, event_time=ahead),
        prediction(4, event_time="2099-01-01T00:00:00.000000Z"),
        b"nonsense",
        None,
        prediction(7, event_id="nowhere"),
    ]
    kept = MemoryStore()
    assert upsert(store.parse(records(spark, values), "1 hour"), kept, config) == {"null_value": 1, "not_a_prediction": 3, "future_time": 2}
    assert sorted(key for key, _ in kept.rows) == ["c0"]
    said = {}
    for record in read.whole(spark, config.kafka, config.predictions.rejected_topic).collect():
        headers = {h["key"]: bytes(h["value"]).decode() for h in record["headers"]}
        said[int(headers["source_offset"])] = headers["reason"]
        assert (headers["trace"], headers["source_timestamp"], headers["lane"]) == ("1", "2026-01-02T03:00:00.000000Z", "store")
    assert said == {
        2: "not_a_prediction",
        3: "future_time",
        4: "future_time",
        5: "not_a_prediction",
        6: "null_value",
        7: "not_a_prediction",
    }


def test_a_batch_of_nothing_but_bad_records_ends(spark: SparkSession, config: cfg.Config) -> None:
    kept = MemoryStore()
    assert upsert(store.parse(records(spark, [b"nonsense", None]), "1 hour"), kept, config) == {"null_value": 1, "not_a_prediction": 1}
    assert upsert(store.parse(records(spark, []), "1 hour"), kept, config) == {}
    assert kept.rows == {}


def test_a_prediction_ahead_of_its_time_does_not_move_what_learners_wait_for(spark: SparkSession) -> None:
    features = {"features": [1.0]}
    values = [prediction(0, **features), prediction(1, event_time="2099-01-01T00:00:00.000000Z", **features), prediction(2)]
    assert [row["key"] for row in labels.answers(records(spark, values), ["m"], "1 hour").select("key").collect()] == ["c0"]
    assert labels.answers(records(spark, values), ["m"], None).agg(F.count("*")).first()[0] == 2  # type: ignore[index]
