"""What the score query counts of its rows as they pass, compared with the rows themselves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from pyspark.sql import Observation, SparkSession
from pyspark.sql import functions as F

from streaming.lanes.counted import counted
from streaming.monitor import latency, progress

ROWS = [
    (None, 0.001),  # (reason, seconds ago)
    (None, 3.0),
    (None, 700.0),
    (None, -3600.0),  # a producer whose clock is ahead
    ("malformed_json", 900.0),
    ("malformed_json", 1.0),
    ("a word that nobody knows", 1.0),
]


def test_reasons_and_latencies(spark: SparkSession) -> None:
    began, now = time.time(), datetime.now(UTC)
    rows = [(reason, now - timedelta(seconds=ago)) for reason, ago in ROWS]
    frame = spark.createDataFrame(rows, "reason STRING, stamp TIMESTAMP")
    problem = F.when(F.col("reason").isNotNull(), F.struct("reason", F.lit("words").alias("error")))
    seen = Observation("score")
    counted(frame.withColumn("_problem", problem), seen, problem=F.col("_problem"), stamp=F.col("stamp")).write.format("noop").mode(
        "overwrite"
    ).save()
    slack_ms = (time.time() - began) * 1000 + 10  # however long the machine took, no row is older than that
    report = {"batchId": 0, "observedMetrics": {"score": seen.get}}
    made = progress.progress("score", report, lag_events=0, lag_s=0.0, reasons={})
    assert (made.rejected, dict(made.reasons)) == (3, {"malformed_json": 2})
    assert made.latency is not None
    assert made.latency.rows == 4
    within = dict(zip(latency.BOUNDS_MS, made.latency.within, strict=True))
    assert within[300_000] == 3
    assert within[2] >= 1  # what was ahead counts as at once
    assert list(made.latency.within) == sorted(made.latency.within)
    assert 703_000 <= made.latency.sum_ms <= 703_001 + 3 * slack_ms
