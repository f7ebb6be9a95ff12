"""What would be longer than the producer may send is cut or rejected, and never stops the job; and nobody but the service speaks in its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming import config as cfg
from streaming.config.sections import Kafka
from streaming.embedded.broker import Broker
from streaming.kafka import read, write
from streaming.lanes import score
from streaming.records import rejected
from streaming.records.predictions import Place
from streaming.records.schema import event_schema

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
RECORD = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
FORGED = [("reason", b"nothing"), ("trace", b"\xff\xfe"), ("source_offset", b"7"), ("empty", None), ("truncated", b"value")]


@dataclass(frozen=True)
class Constant:
    """Says 1 of everything, with as many features as the event asks for."""

    runs_in_jvm: bool = False
    why_not_jvm: Sequence[str] = ()

    def inputs(self) -> StructType:
        return StructType()

    def transform(self, events: DataFrame) -> DataFrame:
        features = F.transform(F.sequence(F.lit(1), F.greatest("n", F.lit(1))), lambda i: F.col("x") / i)
        said = {"prediction": F.lit(1.0), "probability": features, "features": features, "error": F.lit(None).cast("string")}
        return events.withColumns(said)


def event(key: str, **more: Any) -> bytes:
    return json.dumps({"id": key, "n": 1, "x": 0.0} | more).encode()


#: key, value, headers, and what must become of it: a reason or None, and what is cut, with one MiB and with 64 KiB.
CASES: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]] | None, tuple[str | None, str], tuple[str | None, str]]] = {
    "good": (b"k", event("a"), None, (None, ""), (None, "")),
    "no JSON, nearly a MiB": (b"k", b"x" * 1_048_400, None, ("malformed_json", "value"), ("malformed_json", "value")),
    "inflated to five": (b"k", b"x" * 5_000_000, FORGED, ("malformed_json", "value"), ("malformed_json", "value")),
    "a key in the event that stands twice in the prediction": (None, event("k" * 530_000), None, ("too_large", ""), ("too_large", "value")),
    "a key that JSON makes six times as long": (b"k", event("\x01" * 170_000), None, ("too_large", ""), ("too_large", "value")),
    "a key that is long and fits": (b"k", event("k" * 400_000), None, (None, ""), ("too_large", "value")),
    "an event of three MiB with a short key": (b"k", event("a", more="m" * 3_000_000), None, (None, ""), (None, "")),
    "features without end": (b"k", event("a", n=100_000, x=0.1), None, ("too_large", ""), ("too_large", "")),
    "features that are mostly zeros": (b"k", event("a", n=100_000), None, (None, ""), ("too_large", "")),
    "a record key of two MiB": (b"k" * 2_000_000, None, None, ("null_value", "key"), ("null_value", "key")),
    "headers of two MiB": (b"k", b"x", [("h", b"h" * 2_000_000)], ("malformed_json", "headers"), ("malformed_json", "headers")),
    "everything": (b"k" * 900_000, b"x" * 900_000, [("h", b"h" * 900_000)],
                   ("malformed_json", "value,key,headers"), ("malformed_json", "value,key,headers")),
    "with headers of its own": (b"k", b"x", FORGED, ("malformed_json", ""), ("malformed_json", "")),
}  # fmt: skip


def config(servers: str, topic: Callable[..., str], **kafka: str) -> cfg.Config:
    return cfg.parse(
        {
            "name": "sizes",
            "kafka": {"bootstrap_servers": servers, "options": kafka},
            "events": {"topic": "events", "key": "id", "schema": "id STRING, n INT, x DOUBLE"},
            "model": {"name": "constant", "version": "1", "uri": "x"},
            "predictions": {"topic": topic(), "rejected_topic": topic()},
            "store": {"kind": "sqlite", "path": "x"},
            "state": "x",
        }
    )


@pytest.fixture(scope="module")
def records(spark: SparkSession) -> DataFrame:
    rows = [(key, value, "events", 0, i, STAMP, headers) for i, (key, value, headers, _, _) in enumerate(CASES.values())]
    return spark.createDataFrame(rows, RECORD).coalesce(1)


@pytest.mark.parametrize(("options", "column"), [({}, 3), ({"max.request.size": "65536"}, 4)], ids=["one MiB", "64 KiB"])
def test_outputs_that_would_not_fit_are_cut_and_marked_or_rejected(
    spark: SparkSession, broker: Broker, topics: Callable[..., str], records: DataFrame, options: dict[str, str], column: int
) -> None:
    own = config(broker.bootstrap_servers, topics, **options)
    written = score.score(records, own, event_schema(spark, own.events), Constant())
    write.batch(written, own.kafka)  # the producer refuses what is too long, and the broker too

    predicted = {json.loads(r["value"])["event_id"] for r in read.whole(spark, own.kafka, own.predictions.topic).collect()}
    refused = {}
    for record in read.whole(spark, own.kafka, own.predictions.rejected_topic).collect():
        said = rejected.parse((h["key"], h["value"]) for h in record["headers"])
        assert said is not None
        refused[said.place.offset] = (said, record)
    assert len(predicted) + len(refused) == len(CASES)
    for i, (name, case) in enumerate(CASES.items()):
        key, value, headers = case[:3]
        reason, cut = case[column]
        if reason is None:
            assert f"events:0:{i}" in predicted, name
            continue
        said, record = refused[i]
        texts = {h["key"]: h["value"] for h in record["headers"]}
        assert (said.reason, said.place, said.lane) == (reason, Place("events", 0, i), "score"), name
        assert texts["source_timestamp"] == b"2026-01-02T03:04:05.678000Z"
        cuts = set(filter(None, cut.split(",")))
        ours = record["headers"][len(headers or ()) if "headers" not in cuts else 0 :]
        marked = {h["key"]: h["value"] for h in ours}
        assert marked.get("truncated", b"").decode() == cut, name
        if cut:
            lengths = {"key_length": len(key or b""), "value_length": len(value or b"")}
            assert {n: int(marked[n]) for n in lengths} == lengths, name
        for part, there in (("key", key), ("value", value)):
            stands = None if record[part] is None else bytes(record[part])
            if part not in cuts:
                assert stands == there, name
            else:
                assert stands is not None, name
                assert (there or b"").startswith(stands), name
                assert len(stands) > (10_000 if options else 200_000), "no more is cut than must be"
        if headers and "headers" not in cuts:
            assert [(h["key"], h["value"]) for h in record["headers"][: len(headers)]] == headers, name


def test_a_producer_cannot_speak_for_the_service(spark: SparkSession) -> None:
    forged = [
        ("reason", b"nothing"),
        ("error", b""),
        ("source_topic", b"other"),
        ("source_partition", b"1"),
        ("source_offset", b"7"),
        ("lane", b"store"),
    ]
    rows = [(b"k", b"x", "events", 0, 3, STAMP, forged)]
    source = spark.createDataFrame(rows, RECORD).select(F.struct("topic", "partition", "offset", "timestamp", F.col("key").alias("raw_key"), F.col("value").alias("raw_value"), "headers").alias("e"))  # fmt: skip
    why = F.struct(F.lit("why").alias("reason"), F.lit("words").alias("error"))
    record = rejected.record(config("nowhere:1", lambda: "t"), source=F.col("e"), problem=why, lane="score")
    written = source.select(record.alias("record")).select("record.*")
    asked = {
        "its place": rejected.rejects(Place("events", 0, 3), lane="score"),
        "what the producer says": rejected.rejects(Place("other", 1, 7), lane="store"),
        "a mixture": rejected.rejects(Place("events", 0, 7), lane="score"),
    }
    row = written.select("headers", *(condition.alias(name) for name, condition in asked.items())).collect()[0]
    assert [row[name] for name in asked] == [True, False, False]
    said = rejected.parse((h["key"], h["value"]) for h in row["headers"])
    assert said == rejected.Rejection("why", "words", Place("events", 0, 3), "score")


def test_the_room_is_the_producers_own() -> None:
    def room(**options: str) -> int:
        return write.room(Kafka.model_validate({"bootstrap_servers": "x", "options": options}))

    assert (1 << 20) - 4096 < room() < 1 << 20
    assert room(**{"max.request.size": "5000000"}) > 4_900_000
    assert room(**{"max.request.size": "5000000", "buffer.memory": "2000000"}) < 2_000_000
