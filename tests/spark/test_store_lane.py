"""The STORE lane's batch: the newest of each key, whether the rows were gathered in one task or not."""

from __future__ import annotations

import json

import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming import config as cfg
from streaming.lanes import store
from streaming.stores.memory import MemoryStore

CONFIG = cfg.parse({
    "name": "s", "kafka": {"bootstrap_servers": "localhost:1"}, "state": "/nowhere",
    "events": {"topic": "e", "key": "id", "schema": "id STRING"},
    "model": {"name": "m", "version": "1", "uri": "/nowhere"},
    "predictions": {"topic": "p", "rejected_topic": "r"},
    "store": {"kind": "sqlite", "path": "/nowhere.db"},
})  # fmt: skip


def records(spark: SparkSession) -> DataFrame:
    said = [
        (str(offset % 3), json.dumps({"event_id": f"e:0:{offset}", "key": str(offset % 3), "event_time": "2026-01-01T00:00:00.000000Z",
                                      "model": "m", "model_version": "1", "prediction": float(offset)}), offset)
        for offset in range(9)
    ]  # fmt: skip
    frame = spark.createDataFrame([*said, ("x", "no prediction", 9)], "key STRING, value STRING, offset BIGINT").repartition(3)
    return frame.selectExpr(
        "CAST(key AS BINARY) AS key",
        "CAST(value AS BINARY) AS value",
        "'p' AS topic",
        "0 AS partition",
        "offset",
        "current_timestamp() AS timestamp",
    )


def test_a_few_rows_are_gathered_and_a_backlog_is_not(spark: SparkSession) -> None:
    rows = store.parse(records(spark), "1 hour")
    assert store.gathered(rows, None).rdd.getNumPartitions() == 3
    assert store.gathered(rows, store.Counts(20_001, {})).rdd.getNumPartitions() == 3
    assert store.gathered(rows, store.Counts(20_000, {})).rdd.getNumPartitions() == 1


def test_gathered_or_not_the_newest_of_each_key_stands(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(store.write, "batch", lambda frame, kafka: written.append(frame.count()))
    rows = store.parse(records(spark), "1 hour")
    for before in (None, store.Counts(1, {})):
        held = MemoryStore()
        assert store.upsert(store.gathered(rows, before), 0, store=held, config=CONFIG) == store.Counts(10, {"not_a_prediction": 1})
        assert [held.get(key)[0]["prediction"] for key in "012"] == [6.0, 7.0, 8.0]
    assert written == [1, 1]
