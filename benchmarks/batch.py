"""Batch scoring against a hand-written job (read, PipelineModel.transform, write), on the same rows in one run.

    python -m benchmarks batch [--rows 2000000] [--rounds 3]

Both read the same Parquet files in the same session and write Parquet: the key, the time, the prediction and its
probabilities. They take turns; the first round warms the JVM and is not counted.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from benchmarks import harness, prepare
from streaming import config as cfg
from streaming.batch import run as batch
from streaming.batch.inputs import BatchInput
from streaming.demo import churn
from streaming.runtime import session

_PER_FILE = 100_000


def configuration(home: Path, folder: Path) -> cfg.Config:
    """The demo's, with a state of its own."""
    return prepare.configuration(home).model_copy(update={"state": str(folder / "state")})


def fill(folder: Path, rows: int) -> None:
    """Customers as Parquet files, with a time."""
    folder.mkdir()
    for i, first in enumerate(range(0, rows, _PER_FILE)):
        table = pd.DataFrame(churn.customers(min(_PER_FILE, rows - first), 3, first=first))
        table.assign(event_time="2026-01-01T00:00:00Z").to_parquet(folder / f"{i:04d}.parquet")


def by_hand(spark: SparkSession, config: cfg.Config, source: Path, target: Path) -> None:
    """What somebody would write who needs it once."""
    rows = PipelineModel.load(config.model.uri).transform(spark.read.parquet(str(source)))
    rows.select("customer_id", "event_time", "prediction", "probability").write.parquet(str(target))


def main() -> None:
    """Take turns and print the medians and their ratio."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    home, folder = given.home.absolute(), Path(tempfile.mkdtemp(prefix="streaming-batch-"))
    harness.load("start")
    spark = session.start("benchmark", master="local[2]", log=folder / "spark.log")
    try:
        config = configuration(home, folder)
        prepare.ready(home)
        fill(folder / "in", given.rows)
        times: dict[str, list[float]] = {"by hand": [], "streaming batch": []}
        for i in range(given.rounds + 1):
            for name, seconds in times.items():
                target = folder / f"{name}-{i}"
                began = time.monotonic()
                if name == "by hand":
                    by_hand(spark, config, folder / "in", target)
                else:
                    batch.run(config, BatchInput("parquet", str(folder / "in")), str(target), spark)
                if i:
                    seconds.append(time.monotonic() - began)
    finally:
        spark.stop()
        shutil.rmtree(folder, ignore_errors=True)
    hand, ours = (statistics.median(seconds) for seconds in times.values())
    print(f"by hand         {hand:6.1f} s  {given.rows / hand:>10,.0f} rows/s")
    print(f"streaming batch {ours:6.1f} s  {given.rows / ours:>10,.0f} rows/s")
    print(f"ratio           {ours / hand:6.2f}    (1.10 is ten per cent slower)")
    harness.load("end")


if __name__ == "__main__":
    main()
