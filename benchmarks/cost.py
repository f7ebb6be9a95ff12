"""What a model costs in Spark, without Kafka: folded, guarded, PipelineModel, and ONNX in Arrow batches, by columns and kind.

    python -m benchmarks cost [--columns 10 100 1000] [--kinds linear tree] [--cells 20000000] [--repeats 3]

The rows are in memory and the answers go nowhere, so that only the model is paid. All forms must give the same answers on
a thousand rows before anything is timed. Planning: from the call to the physical plan, once warm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import StandardScaler, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import apart
from streaming.config.sections import SavedModel
from streaming.convert import package
from streaming.errors import StreamingError
from streaming.models import python
from streaming.models.spark import pipeline
from streaming.runtime.session import start

#: Rows, at most: a form that is slow on few columns still ends.
_MOST_ROWS = 400_000
_CHECKED = 1_000
#: Trees of a size that people train: 20 trees of depth 5 have about a thousand nodes.
_TREES = {"numTrees": 20, "maxDepth": 5}

Form = Callable[[DataFrame], DataFrame]


def table(spark: SparkSession, rows: int, columns: int) -> DataFrame:
    """Standard normal numbers, the same ones in every run."""
    return spark.range(0, rows, 1, 2).select(*(F.randn(i).alias(f"x{i}") for i in range(columns)))


def train(spark: SparkSession, kind: str, columns: int, uri: str) -> None:
    """Fit a pipeline on labels that depend on the first columns, and save it."""
    names = [f"x{i}" for i in range(columns)]
    rows = table(spark, 2_000, columns).withColumn("label", (F.col("x0") + F.col("x1") - F.col("x2") > 0).cast("double"))
    assembler = VectorAssembler(inputCols=names, outputCol="assembled")
    scaler = StandardScaler(inputCol="assembled", outputCol="features", withMean=True)
    linear = kind == "linear"
    last = LogisticRegression(maxIter=10) if linear else RandomForestClassifier(featuresCol="assembled", seed=1, **_TREES)
    Pipeline(stages=[assembler, *([scaler] if linear else []), last]).fit(rows.cache()).write().overwrite().save(uri)


def forms(spark: SparkSession, uri: str, events: DataFrame, folder: Path) -> dict[str, Form]:
    """The ways to score, those that this model has."""
    section = SavedModel(name="cost", version="1", uri=uri)
    model, plain = pipeline.load(section, spark), PipelineModel.load(uri)
    by_name: dict[str, Form] = {
        "PipelineModel": lambda rows: plain.transform(rows).select("prediction", vector_to_array("probability").alias("probability")),
        "guarded": lambda rows: model.guarded(rows).select("prediction", "probability"),
    }
    folding = model.folding(events.schema)
    if folding.folded is not None:
        by_name["folded"] = lambda rows: model.transform(rows).select("prediction", "probability")
    else:
        apart.note(f"{uri.rsplit('/', 1)[-1]}: not folded: {folding.why_not}")
    try:
        packaged = python.load(SavedModel(name="cost", version="1", format="onnx", uri=str(package.build(section, spark, folder))), spark)
        by_name["ONNX in Arrow"] = lambda rows: packaged.transform(rows).select("prediction", "probability")
    except StreamingError as refused:
        apart.note(f"{uri.rsplit('/', 1)[-1]}: no ONNX: {refused}")
    return by_name


def same(by_name: dict[str, Form], events: DataFrame) -> None:
    """AssertionError when two forms answer differently."""
    few = events.limit(_CHECKED)
    said = {name: [[row.prediction, *row.probability] for row in form(few).collect()] for name, form in by_name.items()}
    for name, values in said.items():
        gap = np.abs(np.array(values) - np.array(said["PipelineModel"])).max()
        assert gap <= 1e-9, f"{name} differs from PipelineModel by {gap}"


def timed(run: Callable[[], Any]) -> float:
    """Seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(spark: SparkSession, kind: str, columns: int, given: argparse.Namespace, folder: Path) -> None:
    """One kind of model over so many columns."""
    rows, uri = min(_MOST_ROWS, given.cells // columns), f"{folder}/{kind}-{columns}"
    apart.say(f"{kind}, {columns} columns, {rows:,} rows")
    train(spark, kind, columns, uri)
    events = table(spark, rows, columns).cache()
    events.count()
    by_name = forms(spark, uri, events, folder / f"{kind}-{columns}-onnx")
    same(by_name, events)
    spent: dict[str, list[float]] = {name: [] for name in by_name}
    plans: dict[str, list[float]] = {name: [] for name in by_name}
    for repeat in range(given.repeats + 1):
        for name, form in by_name.items():
            plan = timed(lambda form=form: form(events)._jdf.queryExecution().executedPlan())
            seconds = timed(lambda form=form: form(events).write.format("noop").mode("overwrite").save())
            if repeat:
                plans[name].append(plan)
                spent[name].append(seconds)
    for name in by_name:
        setting = f"{kind}, {columns:,} columns"
        apart.figure(name, setting, "rows/s", "", [rows / seconds for seconds in spent[name]])
        apart.figure(name, setting, "µs per row", "", [seconds / rows * 1e6 for seconds in spent[name]])
        apart.figure(name, setting, "planning", "s", plans[name])
    events.unpersist()


def main() -> None:
    """Compare and hand the figures over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[10, 100, 1_000])
    parser.add_argument("--kinds", nargs="+", choices=["linear", "tree"], default=["linear", "tree"])
    parser.add_argument(
        "--cells", type=int, default=20_000_000, help="rows times columns: so many that scoring, not planning, is what is timed"
    )
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-cost-") as folder:
        spark = start("cost", master="local[2]", log=Path(folder) / "spark.log")
        for columns in given.columns:
            for kind in given.kinds:
                try:
                    compare(spark, kind, columns, given, Path(folder))
                except AssertionError as differs:
                    apart.note(f"{kind}, {columns} columns: {differs}")
        spark.stop()


if __name__ == "__main__":
    main()
