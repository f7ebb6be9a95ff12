"""`make fuzz`: a hundred thousand hostile records over ten schemas, through Kafka and the SCORE lane. None stops it, and each is answered once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from streaming import config as cfg
from streaming.config.sections import Kafka
from streaming.embedded.broker import Broker
from streaming.kafka import read, write
from streaming.lanes import score
from streaming.models.spark import pipeline
from streaming.records import rejected
from streaming.records.schema import event_schema
from tests.support import hostile
from tests.support.pipelines import save_plan_model

#: What every event has for the model; then, for each schema, its key, its time, and its further fields with a good value of each.
MODEL = {"plan": ("STRING", '"plus"'), "minutes": ("DOUBLE", "2.5"), "calls": ("INT", "3")}
SCHEMAS: tuple[tuple[str, str | None, dict[str, tuple[str, str]]], ...] = (
    ("id", "at", {"id": ("STRING", '"a"'), "at": ("STRING", '"2026-01-01T00:00:00Z"')}),
    ("id", "at", {"id": ("BIGINT", "7"), "at": ("BIGINT", "1767225600000"), "d": ("DECIMAL(10,2)", "1.25")}),
    ("id", "at", {"id": ("DECIMAL(38,18)", "1.5"), "at": ("DECIMAL(20,3)", "1767225600.5")}),
    ("id", "at", {"id": ("STRING", '"a"'), "at": ("TIMESTAMP", '"2026-01-01T00:00:00Z"'), "b": ("BINARY", '"AAAA"')}),
    ("id", "at", {"id": ("DATE", '"2026-01-01"'), "at": ("DATE", '"2026-01-01"'), "n": ("TIMESTAMP_NTZ", '"2026-01-01T00:00:00"')}),
    ("o.k", "o.t", {"o": ("STRUCT<k: STRING, t: DOUBLE, a: ARRAY<STRUCT<c: DECIMAL(5,1)>>>", '{"k":"a","t":1767225600.0,"a":[{"c":1}]}')}),
    ("id", None, {"id": ("STRING", '"a"'), "m": ("MAP<STRING, DATE>", '{"k":"2026-01-01"}'), "v": ("VARIANT", "[1]")}),
    ("id", "at", {"id": ("VARIANT", '"a"'), "at": ("STRING", '"20260101T000000Z"'), "i": ("INTERVAL DAY TO SECOND", "\"INTERVAL '1' DAY\"")}),
    ("id", "at", {"id": ("BOOLEAN", "true"), "at": ("FLOAT", "1767225600"), "s": ("SHORT", "1"), "y": ("BYTE", "1")}),
    ("id", "at", {"id": ("BINARY", '"AAAA"'), "at": ("TIMESTAMP_NTZ", '"2026-01-01T00:00:00"'), "a": ("ARRAY<ARRAY<FLOAT>>", "[[1.5]]")}),
)  # fmt: skip
RECORD = "key BINARY, value BINARY, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
N = 10_000


@pytest.fixture(scope="module")
def model(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_plan_model(spark, tmp_path_factory.mktemp("fuzz") / "model")


@pytest.mark.campaign
@pytest.mark.parametrize("schema", range(len(SCHEMAS)))
def test_every_hostile_record_is_answered_once_and_none_stops_the_lane(
    spark: SparkSession, broker: Broker, topics: Callable[..., str], model: Path, tmp_path: Path, schema: int
) -> None:
    key, time, fields = SCHEMAS[schema]
    events = {name: declared for name, (declared, _) in (fields | MODEL).items()}
    good = {name: text for name, (_, text) in (fields | MODEL).items()}
    config = cfg.parse(
        {
            "name": "fuzz",
            "kafka": {"bootstrap_servers": broker.bootstrap_servers, "options": {"max.request.size": "200000"} if schema % 2 else {}},
            "events": {"topic": topics(2), "schema": ", ".join(f"{n} {d}" for n, d in events.items()), "key": key, "time": time},
            "model": {"name": "m", "version": "1", "uri": str(model), "fold": "auto" if schema % 3 else "never"},
            "predictions": {"topic": topics(2), "rejected_topic": topics(2)},
            "store": {"kind": "sqlite", "path": "x"},
            "state": "x",
        }
    )
    rng = random.Random(schema)
    keys = (None, b"", b"k", b"\xff" * 10)
    records = [(rng.choice(keys), hostile.record(rng, good), hostile.headers(rng)) for _ in range(N)]
    write.batch(
        spark.createDataFrame(records, RECORD).withColumn("topic", F.lit(config.events.topic)),
        Kafka(bootstrap_servers=broker.bootstrap_servers),
    )

    stream = read.stream(spark, config.kafka, config.events.topic, max_records=4_000, headers=True)
    scored = score.score(stream, config, event_schema(spark, config.events), pipeline.load(config.model, spark))
    query = write.stream(scored, config.kafka).option("checkpointLocation", str(tmp_path)).trigger(availableNow=True).start()
    query.awaitTermination()

    predicted = read.whole(spark, config.kafka, config.predictions.topic).select(
        F.get_json_object(F.col("value").cast("string"), "$.event_id").alias("id")
    )
    last = {name: rejected.header(name) for name in ("source_topic", "source_partition", "source_offset", "reason")}
    place = F.concat_ws(":", last["source_topic"], last["source_partition"], last["source_offset"])
    refused = read.whole(spark, config.kafka, config.predictions.rejected_topic).select(place.alias("id"), last["reason"].alias("reason"))
    answered = [row["id"] for row in predicted.collect()]
    reasons = refused.collect()
    ends = [
        f"{r['topic']}:{r['partition']}:{r['offset']}"
        for r in read.whole(spark, config.kafka, config.events.topic).select("topic", "partition", "offset").collect()
    ]
    assert sorted([*answered, *(row["id"] for row in reasons)]) == sorted(ends)
    assert len(ends) == N
    said = Counter(row["reason"] for row in reasons)
    assert answered, "the good ones are answered"
    assert {"malformed_json", "wrong_type", "invalid_utf8"} <= set(said), said
    print(f"schema {schema}: sent {N}, predicted {len(answered)}, rejected {dict(said.most_common())}")
