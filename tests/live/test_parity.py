"""Every form of a model answers as the saved pipeline does, and a form that does not is found out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from streaming import config as cfg
from streaming.demo import churn
from streaming.errors import ConfigError, EnvironmentFailure
from streaming.proof.parity import forms, run, table
from streaming.training import run as training
from tests.support.usual import usual

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.embedded.broker import Broker

pytestmark = pytest.mark.timeout(900)

#: Its converter is under the AGPL and installed on demand alone: make setup AGPL=1.
PMML = {"PMML"} if find_spec("pyspark2pmml") else set()
ALL = {"stream, real-time", "stream, micro-batch", "batch", "REST", "edge", "ONNX", *PMML}


def tree(broker: Broker, folder: Path, **model: Any) -> dict[str, Any]:
    return {
        "name": "golden",
        "kafka": {"bootstrap_servers": broker.bootstrap_servers},
        "events": {"topic": "unused", "schema": churn.EVENT_DDL, "key": "customer_id", "time": "event_time"},
        "model": {"name": "churn", "version": "1", "uri": str(folder / "model")},
        "predictions": {"topic": "unused.predictions", "rejected_topic": "unused.rejected"},
        "store": {"kind": "sqlite", "path": str(folder / "predictions.db")},
        "state": str(folder / "state"),
        "train": {
            "data": str(churn.write_training_table(folder / "customers.parquet", 600, seed=3)),
            "label": "churn",
            "positive_label": "Yes",
            "categorical": list(churn.CATEGORICAL),
            "numeric": list(churn.NUMERIC),
            **model,
        },
    }


@pytest.fixture(scope="module")
def logistic(broker: Broker, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> cfg.Config:
    """As `streaming train` makes it: it fills nulls in, and scores every event."""
    config = cfg.parse(tree(broker, tmp_path_factory.mktemp("logistic"), algorithm="logistic_regression", params={"maxIter": 5}))
    assert config.train is not None
    training.train(config.train, config.model, spark, source="test")
    return config


@pytest.fixture(scope="module")
def forest(broker: Broker, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> cfg.Config:
    """A pipeline of somebody else's: it refuses events with a null number, and puts unseen categories in a class of their own."""
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import RandomForestClassifier
    from pyspark.ml.feature import StringIndexer, VectorAssembler

    folder = tmp_path_factory.mktemp("forest")
    config = cfg.parse(tree(broker, folder))
    indexed = ["contract", "internet_service"]
    stages = [
        StringIndexer(inputCols=indexed, outputCols=[f"{name}_index" for name in indexed], handleInvalid="keep"),
        VectorAssembler(inputCols=[*(f"{name}_index" for name in indexed), "tenure", "monthly_charges"], outputCol="features"),
        RandomForestClassifier(numTrees=5, maxDepth=4, seed=1),
    ]
    table = spark.read.parquet(str(folder / "customers.parquet")).selectExpr("*", "double(churn = 'Yes') AS label")
    Pipeline(stages=stages).fit(table).save(config.model.uri)
    return config


def check(outcome: run.ParityOutcome, expected: set[str]) -> None:
    forms = {row.form for row in outcome.rows if row.report is not None}
    assert forms == expected, [(row.form, row.note) for row in outcome.rows]
    assert outcome.ok, [(row.form, row.report, row.note) for row in outcome.rows if not row.ok]


def topics(broker: Broker) -> set[str]:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        return {name for name in admin.list_topics() if "-parity-" in name}
    finally:
        admin.close()


def test_the_churn_model_in_every_form(logistic: cfg.Config, spark: SparkSession, broker: Broker) -> None:
    outcome = run.run(logistic, spark, n=300)
    check(outcome, ALL)
    assert PMML or [row.note for row in outcome.rows if row.form == "PMML" and "convert-pmml" in row.note]
    assert (outcome.events, outcome.rejected) == (300, 0)
    assert topics(broker) == set()


@pytest.mark.skipif(bool(PMML), reason="the converter is installed")
def test_a_converter_that_nobody_installed_is_said_and_missed_only_where_it_is_named(logistic: cfg.Config, spark: SparkSession) -> None:
    with pytest.raises(EnvironmentFailure, match="convert-pmml"):
        run.run(logistic, spark, names=("pmml",), n=10)


def test_a_forest_in_every_form(forest: cfg.Config, spark: SparkSession) -> None:
    outcome = run.run(forest, spark, names=("batch", "edge", "onnx", *(["pmml"] if PMML else [])), n=300)
    check(outcome, {"batch", "edge", "ONNX", *PMML})
    assert 0 < outcome.rejected < outcome.events  # by every form alike


def events(n: int) -> list[dict[str, Any]]:
    """Customers, with nulls, an unseen category and one without a key."""
    people = churn.customers(n, 11)
    made = [dict(zip(people, row, strict=True)) for row in zip(*(column.tolist() for column in people.values()), strict=True)]
    for i, event in enumerate(made):
        event["event_time"] = f"2026-01-01T00:00:{i % 60:02d}Z"
        if i % 7 == 0:
            event["contract"] = "never seen"
        if i % 11 == 0:
            event["tenure"] = None
        if i % 13 == 0:
            event["gender"] = None
    made[5]["customer_id"] = None
    return made


@pytest.mark.parametrize("ending", usual(["jsonl", "csv"], {"csv"}))
def test_a_file_of_events(forest: cfg.Config, spark: SparkSession, tmp_path: Path, ending: str) -> None:
    file, made = tmp_path / f"events.{ending}", events(60)
    with file.open("w") as out:
        if ending == "jsonl":
            out.writelines(json.dumps(event) + "\n" for event in made)
        else:
            writer = csv.DictWriter(out, list(made[0]))
            writer.writeheader()
            writer.writerows(made)
    outcome = run.run(forest, spark, names=("batch",), data=file, n=50)
    check(outcome, {"batch"})
    assert (outcome.events, outcome.left_out) == (49, 1)


def test_a_form_that_differs_is_found_out(forest: cfg.Config, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: forms.Bench) -> Any:
        said = forms.reference(bench)
        error = list(said.error)
        good = [i for i, words in enumerate(error) if words is None]
        probability = np.array(said.probability)
        probability[good[0]] += 1e-8
        error[good[1]] = "gender: refused"
        return replace(said, probability=probability, error=error)

    monkeypatch.setitem(run.FORMS, "onnx", {"ONNX": broken})  # type: ignore[arg-type]
    outcome = run.run(forest, spark, names=("onnx",), n=40)
    (row,) = outcome.rows
    assert not outcome.ok
    assert row.report is not None
    assert (row.report.verdicts, row.report.labels) == (1, 0)
    assert row.report.largest["probability"] == pytest.approx(1e-8, rel=1e-3)
    assert len(row.worst) == 2
    console = Console(width=200, record=True, file=(Path("/dev/null").open("w")))  # noqa: SIM115
    console.print(table.table(outcome, title="churn 1"))
    console.file.close()
    shown = console.export_text()
    assert row.worst[0][1] in shown
    assert "gender: refused" in shown
    assert "these answer otherwise than the pipeline: ONNX" in table.summary(outcome)


def test_forms_are_named_and_checked() -> None:
    assert run.chosen("batch, onnx") == ("batch", "onnx")
    with pytest.raises(ConfigError, match="--forms: unknown form onx; valid: stream, batch"):
        run.chosen("onx")


@pytest.mark.campaign
@pytest.mark.parametrize("algorithm", ["logistic", "forest"])
def test_ten_thousand_events(request: pytest.FixtureRequest, spark: SparkSession, algorithm: str) -> None:
    outcome = run.run(request.getfixturevalue(algorithm), spark, n=10_000)
    check(outcome, ALL)
    assert outcome.events == 10_000
