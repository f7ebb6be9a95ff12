"""What watching costs: CPU of the monitor lane for each event beside that of scoring it, by columns and share sampled.

    python -m benchmarks monitor [--columns 20 100] [--sample 1.0 0.25] [--events 30000] [--repeats 4]

Without Kafka: records in memory, scored to nowhere, and watched as the lane does it, slices, labels and alerts included.
CPU time (user and system) of this process, its JVM and its Python workers, so that a busy machine disturbs little. A batch of
30,000 events is one of the default trigger, 30 seconds, at 1,000 events/s.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import StandardScaler, VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming import config as cfg
from streaming.config.sections import SavedModel
from streaming.lanes import monitor, score
from streaming.lanes.monitor_rows import MonitorInputs, rows
from streaming.learning import labels
from streaming.models.spark import pipeline
from streaming.monitor.baseline import AnsweredRows, of_table
from streaming.records.schema import event_schema
from streaming.runtime.files import LocalFolder
from streaming.runtime.session import start

KAFKA = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"


def configuration(columns: int, sample: float, folder: Path) -> cfg.Config:
    """The job of :func:`tree`."""
    return cfg.parse(tree(columns, sample, folder))


def tree(columns: int, sample: float, folder: Path) -> dict[str, Any]:
    """A job with so many numbers and one text that makes slices."""
    fields = ", ".join(f"x{i} DOUBLE" for i in range(columns - 1))
    return {
        "name": "cost", "kafka": {"bootstrap_servers": "nowhere:9092"}, "state": str(folder / "state"),
        "events": {"topic": "events", "schema": f"id STRING, at TIMESTAMP, plan STRING, {fields}", "key": "id", "time": "at"},
        "model": {"name": "model", "version": "1", "uri": str(folder / "model")},
        "predictions": {"topic": "predictions", "rejected_topic": "rejected"}, "labels": {"topic": "labels"},
        "store": {"kind": "sqlite", "path": "none.db"}, "monitor": {"slices": ["plan"], "sample": sample},
    }  # fmt: skip


def records(spark: SparkSession, folder: Path, n: int, columns: int) -> dict[str, DataFrame]:
    """Events with their answers and labels, as Kafka gives them, on disk: reading them costs both sides the same."""
    at = F.timestamp_micros((F.lit(1_767_225_600_000_000) + F.col("id") * 1000).cast("bigint"))
    base = spark.range(0, n, 1, 2).select(F.concat(F.lit("c"), "id").alias("key"), "id", at.alias("when"))
    names = [F.rand(i).alias(f"x{i}") for i in range(columns - 1)]
    plan = F.element_at(F.array(*map(F.lit, ("a", "b", "c"))), (F.col("id") % 3 + 1).cast("int"))
    event = F.struct(F.col("key").alias("id"), F.col("when").alias("at"), plan.alias("plan"), *names)
    p = F.rand(99)
    answer = F.struct(
        F.concat(F.lit("events:0:"), "id").alias("event_id"), "key", F.date_format("when", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX").alias("event_time"),
        F.lit("model").alias("model"), F.lit("1").alias("model_version"), (p > 0.5).cast("double").alias("prediction"), F.array(1 - p, p).alias("probability"),
    )  # fmt: skip
    label = F.struct(
        "key", F.date_format("when", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX").alias("event_time"), (F.rand(7) > 0.5).cast("double").alias("label")
    )
    made = {"events": event, "predictions": answer, "labels": label}
    for topic, value in made.items():
        place = (F.lit(topic).alias("topic"), F.lit(0).alias("partition"), F.col("id").alias("offset"), F.col("when").alias("timestamp"))
        none = F.lit(None).cast("array<struct<key: string, value: binary>>").alias("headers")
        rows = base.select(F.col("key").cast("binary").alias("key"), F.to_json(value).cast("binary").alias("value"), *place, none)
        rows.write.mode("overwrite").parquet(str(folder / topic))
    return {topic: spark.read.parquet(str(folder / topic)) for topic in made} | {"rejected": spark.createDataFrame([], KAFKA)}


def train(spark: SparkSession, folder: Path, columns: int) -> None:
    """A pipeline over the numbers."""
    names = [f"x{i}" for i in range(columns - 1)]
    table = spark.range(0, 2000, 1, 2).select(*(F.rand(i).alias(f"x{i}") for i in range(columns - 1)))
    stages = [
        VectorAssembler(inputCols=names, outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features"),
        LogisticRegression(maxIter=5),
    ]
    Pipeline(stages=stages).fit(table.withColumn("label", (F.col("x0") > 0.5).cast("double"))).write().overwrite().save(
        str(folder / "model")
    )


def cpu_s() -> float:
    """CPU seconds of this process and all below it."""
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in [me, *me.children(recursive=True)])


def timed(what: Callable[[int], Any], repeats: int) -> tuple[float, float]:
    """(CPU seconds, seconds) of one call, warm: the least of the repeats."""
    runs = []
    for n in range(repeats + 2):
        cpu, began = cpu_s(), time.monotonic()
        what(n)
        runs.append((cpu_s() - cpu, time.monotonic() - began))
    return min(c for c, _ in runs[2:]), min(s for _, s in runs[2:])


def measure(spark: SparkSession, columns: int, samples: list[float], n: int, repeats: int) -> list[str]:
    """Rows of the table for one number of columns."""
    lines = []
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        train(spark, folder, columns)
        frames = records(spark, folder, n, columns)
        config = configuration(columns, 1.0, folder)
        schema = event_schema(spark, config.events)
        model = pipeline.load(SavedModel(name="model", version="1", uri=str(folder / "model")), spark)
        scored = score.score(frames["events"], config, schema, model)
        cost, took = timed(lambda _: scored.write.format("noop").mode("overwrite").save(), repeats)
        lines.append(f"| {columns} | score | {cost / n * 1e6:.0f} | | {took:.1f} |")
        rng = np.random.default_rng(0)
        known = {f"x{i}": rng.random(5000) for i in range(columns - 1)} | {"plan": rng.choice(["a", "b", "c"], 5000)}
        p = rng.random(5000)
        answers = AnsweredRows("model", "probability", (p > 0.5).astype(float), p, (rng.random(5000) < p).astype(float))
        base = of_table(pa.table(known), columns=list(known), slices=["plan"], source="made", answers=answers)
        for sample in samples:
            config = configuration(columns, sample, folder)
            assert config.labels is not None
            watcher = monitor.open_watcher(config, base, LocalFolder(folder / f"state-{sample}"))
            inputs = MonitorInputs(
                *(frames[t] for t in ("events", "predictions", "rejected", "labels")),
                schema,
                event_schema(spark, labels.label_events(config.labels)),
            )
            frame = rows(inputs, config, watcher.watch)
            watched, took = timed(lambda i, f=frame, w=watcher: monitor.watch_batch(f, i, watcher=w), repeats)
            lines.append(f"| {columns} | watch, sample {sample:g} | {watched / n * 1e6:.0f} | {watched / cost:.0%} | {took:.1f} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--sample", type=float, nargs="+", default=[1.0, 0.25])
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        spark = start("cost-of-watching", master="local[2]", options={"spark.ui.enabled": "false"}, log=Path(where) / "spark.log")
        print("| columns | what | CPU µs an event | of scoring | seconds a batch |\n|---|---|---|---|---|", flush=True)
        for columns in options.columns:
            print("\n".join(measure(spark, columns, options.sample, options.events, options.repeats)), flush=True)
        print(json.dumps({"events": options.events, "cores": psutil.cpu_count()}))
        spark.stop()


if __name__ == "__main__":
    main()
