"""What the live tests share: one small saved pipeline, and configs over topics of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.embedded.broker import Broker
    from tests.support.inside import Inside

SCHEMA = "id STRING, at STRING, plan STRING, minutes DOUBLE, calls INT"


@pytest.fixture(scope="session")
def saved_pipeline(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """plan -> index -> one-hot, with minutes and calls -> logistic regression. Unseen plans are refused (handleInvalid="error")."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler

    rows = [(("basic", "plus", "pro")[i % 3], float(i % 17), i % 5, float((i * 7) % 11 < 4)) for i in range(330)]
    data = spark.createDataFrame(rows, "plan STRING, minutes DOUBLE, calls INT, label DOUBLE")
    stages = [
        StringIndexer(inputCol="plan", outputCol="plan_index", handleInvalid="error"),
        OneHotEncoder(inputCols=["plan_index"], outputCols=["plan_vector"]),
        VectorAssembler(inputCols=["plan_vector", "minutes", "calls"], outputCol="features"),
        LogisticRegression(maxIter=5),
    ]
    path = tmp_path_factory.mktemp("model") / "pipeline"
    Pipeline(stages=stages).fit(data).save(str(path))
    return path


@pytest.fixture
def inside(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Inside:
    """`with inside(tree) as job`: the job over the session of the tests, for what needs no process of its own."""
    from tests.support.inside import over

    return over(spark, monkeypatch)


@pytest.fixture
def tree(broker: Broker, topics: Callable[..., str], saved_pipeline: Path, tmp_path: Path) -> dict[str, Any]:
    """A complete configuration over fresh topics, as plain values: tests change what they are about."""
    return {
        "name": "live",
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "events": {"topic": topics(2), "schema": SCHEMA, "key": "id", "time": "at"},
        "model": {"name": "churn", "version": "3", "uri": str(saved_pipeline)},
        "score": {"mode": "microbatch"},
        "predictions": {"topic": topics(2), "rejected_topic": topics(1)},
        "store": {"kind": "sqlite", "path": str(tmp_path / "predictions.db")},
        "state": str(tmp_path / "state"),
        "job": {"port": 0},
    }


@pytest.fixture
def learning(tree: dict[str, Any], topics: Callable[..., str]) -> dict[str, Any]:
    """The configuration with a learner beside the pipeline, and labels on a topic of their own."""
    tree["predictions"]["shadow_topic"] = topics(2)
    tree["labels"] = {"topic": topics(2), "key": "id", "time": "at", "label": "label", "max_delay": "10 minutes"}
    tree["learners"] = [{"name": "online", "algorithm": "logistic_regression", "params": {"mini_batch": 1}, "window": 200}]
    tree["learn"] = {"trigger": "500 ms"}
    return tree
