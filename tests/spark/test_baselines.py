"""The baseline that training writes, the one made of a table, and which of them the monitor takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from streaming import config as cfg
from streaming.config.sections import SavedModel, Train
from streaming.demo import churn
from streaming.errors import ConfigError
from streaming.models import baselines, manifest
from streaming.monitor import quality
from streaming.monitor.baseline import Baseline
from streaming.monitor.statistics import ALL, QUALITY
from streaming.monitor.windows import rows_of
from streaming.runtime.files import LocalFolder
from streaming.training import baseline as make
from streaming.training.run import train

CATEGORICAL = ["contract", "internet_service"]
NUMERIC = ["tenure", "monthly_charges"]


@pytest.fixture(scope="module")
def trained(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The table and the model."""
    folder = tmp_path_factory.mktemp("trained")
    data = churn.write_training_table(folder / "churn.parquet", 1500, seed=3)
    section = Train.model_validate(
        {
            "data": str(data),
            "label": "churn",
            "positive_label": "Yes",
            "categorical": CATEGORICAL,
            "numeric": NUMERIC,
            "params": {"maxIter": 5},
        }
    )
    train(section, SavedModel(name="churn", version="1", uri=str(folder / "model")), spark, source="conf/test.yaml", slices=["contract"])
    return data, folder / "model"


def config(model: Path, state: Path, **monitor: Any) -> cfg.Config:
    return cfg.parse(
        {
            "name": "b", "kafka": {"bootstrap_servers": "nowhere:1"}, "events": {"topic": "e", "schema": churn.EVENT_DDL, "key": "customer_id"},
            "model": {"name": "churn", "version": "1", "uri": str(model)}, "predictions": {"topic": "p", "rejected_topic": "r"},
            "store": {"kind": "sqlite", "path": "x"}, "state": str(state), "monitor": {"slices": ["contract"], **monitor},
        }
    )  # fmt: skip


def test_training_writes_the_baseline_into_the_manifest_on_one_line(
    spark: SparkSession, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    text = (trained[1] / "MANIFEST.json").read_text()
    assert len(text.splitlines()) < 100
    baseline = baselines.load(config(trained[1], tmp_path), LocalFolder(tmp_path), spark)
    assert {c.name for c in baseline.layout.columns} == {*CATEGORICAL, *NUMERIC}
    assert (baseline.task, baseline.source, baseline.layout.slices) == ("probability", "training", ("contract",))
    assert rows_of(baseline.statistics, baseline.layout) == baseline.rows == json.loads(text)["rows"]["train"]
    held_out = baseline.statistics.get(ALL, f"{QUALITY}churn")
    assert held_out is not None
    assert held_out[quality.N] == json.loads(text)["rows"]["test"]
    accuracy = next(m.value for m in quality.measures(held_out, task="probability") if m.name == "accuracy")
    assert accuracy == pytest.approx(json.loads(text)["metrics"]["accuracy"])
    assert manifest.fingerprint(spark, str(trained[1])) == json.loads(text)["sha256"]


def test_a_table_gives_the_baseline_of_a_model_that_was_trained_elsewhere(
    spark: SparkSession, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    data, model = trained
    made = make.of_table(config(model, tmp_path), str(data), spark, label="churn", positive="Yes", source="conf/test.yaml")
    assert made.rows == 1500
    assert {c.name for c in made.layout.columns} == {*CATEGORICAL, *NUMERIC}
    pairs = made.statistics.get(ALL, f"{QUALITY}churn")
    assert pairs is not None
    assert pairs[quality.N] == 1500
    assert made.worth is not None
    unlabelled = make.of_table(config(model, tmp_path), str(data), spark, label=None, positive=None, source="conf/test.yaml")
    assert unlabelled.statistics.get(ALL, f"{QUALITY}churn") is None
    # What is in the state folder goes before the manifest, a file that the config names before both.
    LocalFolder(tmp_path / "monitor").replace("baseline.json", made.to_bytes())
    assert baselines.load(config(model, tmp_path), LocalFolder(tmp_path), spark).rows == 1500
    (tmp_path / "named.json").write_bytes(unlabelled.to_bytes())
    named = baselines.load(config(model, tmp_path, baseline=str(tmp_path / "named.json")), LocalFolder(tmp_path), spark)
    assert isinstance(named, Baseline)
    assert named.statistics.get(ALL, f"{QUALITY}churn") is None


def test_what_is_missing_is_said_with_the_way_out(spark: SparkSession, trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, model = trained
    with pytest.raises(ConfigError, match=r"no baseline of the model at .*streaming baseline CONFIG"):
        baselines.load(config(tmp_path, tmp_path), LocalFolder(tmp_path), spark)
    with pytest.raises(ConfigError, match="no slices of payment_method"):
        baselines.load(config(model, tmp_path, slices=["payment_method"]), LocalFolder(tmp_path), spark)
    with pytest.raises(ConfigError, match="no such file"):
        baselines.load(config(model, tmp_path, baseline=str(tmp_path / "none.json")), LocalFolder(tmp_path), spark)
    with pytest.raises(ConfigError, match="no column 'nobody'"):
        make.of_table(config(model, tmp_path), str(data), spark, label="nobody", positive=None, source="conf/test.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        make.of_table(config(model, tmp_path), str(tmp_path / "none.parquet"), spark, label=None, positive=None, source="conf/test.yaml")
