"""Bare Spark queries: what nothing that runs on Spark can beat.

    python -m benchmarks.systems.spark identity-realtime|identity-microbatch|bytes|parse SERVERS EVENTS OUT FOLDER HOME TRIGGER

identity: the bytes of each record from topic to topic. bytes: read and thrown away. parse: `from_json` with the events'
schema, every field, thrown away. The session is the project's own, so that only the query differs. What writes to no
topic prints one JSON line for each micro-batch: {"rows": so far, "at": when}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.systems.base import Place, Script, place

_PER_BATCH = 200_000

IDENTITY_REALTIME = Script("Spark identity, real-time", "spark", ("identity-realtime",), answers=False, realtime=True)
IDENTITY_MICROBATCH = Script("Spark identity, micro-batch", "spark", ("identity-microbatch",), answers=False)
BYTES = Script("Spark, bytes only, to nowhere", "spark", ("bytes",), answers=False)
PARSE = Script("Spark, from_json only, to nowhere", "spark", ("parse",), answers=False)


def query(kind: str, at: Place, spark: Any) -> Any:
    """The query, not started yet."""
    from pyspark.sql import functions as F

    from streaming.demo import churn
    from streaming.lanes.score import PRODUCER

    reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", at.servers).option("subscribe", at.events)
    reader = reader.option("startingOffsets", "earliest")
    if not kind.startswith("identity"):
        records = reader.option("maxOffsetsPerTrigger", _PER_BATCH).load()
        text = F.from_json(F.col("value").cast("string"), churn.EVENT_DDL).alias("event")
        return (records.select("value") if kind == "bytes" else records.select(text).select("event.*")).writeStream.format("noop")
    mode = kind.removeprefix("identity-")
    records = reader.load().select(F.lit(at.out).alias("topic"), "key", "value")
    return records.writeStream.format("kafka").option("kafka.bootstrap.servers", at.servers).options(**PRODUCER[mode])


def tell(running: Any) -> None:
    """Say how many rows are done whenever a micro-batch is over."""
    rows, last = 0, -1
    while running.isActive:
        for progress in running.recentProgress:
            if progress.batchId > last and progress.numInputRows:
                last, rows = progress.batchId, rows + progress.numInputRows
                print(json.dumps({"rows": rows, "at": time.time()}), flush=True)
        time.sleep(0.05)
    if running.exception() is not None:
        sys.exit(str(running.exception()))


def main() -> None:
    """Run until told to stop."""
    from streaming.runtime.session import start
    from streaming.runtime.spark import LOCAL_STATE

    kind, at = sys.argv[1], place(sys.argv[2:])
    spark = start("benchmark", master="local[4]", options=LOCAL_STATE, log=Path(at.folder) / "spark.log")
    writer = query(kind, at, spark).option("checkpointLocation", str(at.folder / "checkpoint")).outputMode("update")
    running = (writer.trigger(realTime=at.trigger) if kind == "identity-realtime" else writer.trigger(processingTime="0 seconds")).start()
    if kind.startswith("identity"):
        running.awaitTermination()
    else:
        tell(running)


if __name__ == "__main__":
    main()
