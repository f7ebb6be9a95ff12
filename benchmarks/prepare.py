"""Everything that is made once: the churn pipeline, its weights for scikit-learn, its ONNX package, and its answer for every customer.

    python -m benchmarks.prepare HOME

The answers are `PipelineModel.transform`'s: what every system is compared with before anything is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from benchmarks import linear
from streaming import config as cfg
from streaming.demo import churn
from streaming.runtime import jars

TRAINING_ROWS = 20_000
TRAINING_SEED = 7
#: Of the events: the same customers whoever sends them.
SEED = 8
ANSWERS = "answers.json"


def configuration(home: Path, servers: str = "localhost:1") -> cfg.Config:
    """The demo's, with its files in `home`."""
    text = jars.conf_file("demo.yaml").read_text()
    return cfg.parse(yaml.safe_load(text.replace("${env:DEMO_BROKER}", servers).replace("${env:DEMO_HOME}", str(home))))


def ready(home: Path) -> None:
    """Make what is not there yet, in processes of their own, so that their JVMs are gone before anything is measured."""
    config = configuration(home)
    done, wanted = home / "prepared", f"{config.train!r} {config.model!r} rows={TRAINING_ROWS} seeds={TRAINING_SEED},{SEED}"
    if done.exists() and done.read_text() == wanted and Path(config.model.uri).exists():
        return
    print("training the churn pipeline and its twins (once)", flush=True)
    home.mkdir(parents=True, exist_ok=True)
    assert config.train is not None
    churn.write_training_table(config.train.data, TRAINING_ROWS, seed=TRAINING_SEED)
    environment = {**os.environ, "DEMO_BROKER": "localhost:1", "DEMO_HOME": str(home)}
    subprocess.run(
        [sys.executable, "-m", "streaming", "train", str(jars.conf_file("demo.yaml")), "--overwrite"], check=True, env=environment
    )
    subprocess.run([sys.executable, "-m", "benchmarks.prepare", str(home)], check=True)
    done.write_text(wanted)


def answers(home: Path) -> dict[str, float]:
    """Customer -> the probability that the pipeline gives."""
    expected: dict[str, float] = json.loads((home / ANSWERS).read_text())
    return expected


def main() -> None:
    """Ask the pipeline."""
    import shutil

    import pandas as pd
    from pyspark.ml import PipelineModel
    from pyspark.ml.functions import vector_to_array

    from streaming.convert import package
    from streaming.runtime.session import start

    home = Path(sys.argv[1])
    spark = start("prepare", master="local[2]", log=home / "prepare.log")
    config = configuration(home)
    model = PipelineModel.load(config.model.uri)

    def log_odds(rows: pd.DataFrame) -> list[float]:
        said = model.transform(spark.createDataFrame(rows)).select(vector_to_array("rawPrediction")[1].alias("odds"))
        return [row.odds for row in said.collect()]

    table = pd.read_parquet(home / "customers.parquet")
    categories = {name: sorted(table[name].unique()) for name in churn.CATEGORICAL}
    deviations = {name: float(table[name].std()) for name in churn.NUMERIC}
    linear.save(linear.read_off(lambda rows: log_odds(pd.DataFrame(rows)), categories, deviations), home)
    people = pd.DataFrame(churn.customers(churn.POPULATION, SEED))
    probabilities = 1.0 / (1.0 + np.exp(-np.array(log_odds(people))))
    (home / ANSWERS).write_text(json.dumps(dict(zip(people["customer_id"].tolist(), probabilities.tolist(), strict=True))))
    shutil.rmtree(home / "package", ignore_errors=True)
    package.build(config.model, spark, home / "package")
    spark.stop()


if __name__ == "__main__":
    main()
