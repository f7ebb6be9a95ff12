"""Spark pipelines as PMML: a file that a PMML engine can check itself against, or a refusal that says why."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from pyspark.ml import Pipeline, classification, clustering
from pyspark.ml import feature as ft
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel
from streaming.errors import ModelError

pytest.importorskip("pyspark2pmml", reason="the converter is under the AGPL and not installed unasked: make setup AGPL=1")
from streaming.convert import pmml


@pytest.fixture(scope="module")
def training(spark: SparkSession) -> DataFrame:
    rows = [(("month", "year")[i % 2], (i * 37) % 72, ((i * 7919) % 1000) / 10) for i in range(200)]
    made = spark.createDataFrame(rows, "contract STRING, tenure INT, charges DOUBLE").coalesce(1)
    return made.withColumn("label", (F.col("tenure") < 24).cast("double")).cache()


def saved(last: object, training: DataFrame, path: Path, *, encode: bool = True) -> SavedModel:
    encoder = [ft.OneHotEncoder(inputCols=["c"], outputCols=["o"])] if encode else []
    stages = [
        ft.StringIndexer(inputCol="contract", outputCol="c", handleInvalid="keep"),
        *encoder,
        ft.VectorAssembler(inputCols=["o" if encode else "c", "tenure", "charges"], outputCol="features"),
        last,
    ]
    Pipeline(stages=stages).fit(training).write().overwrite().save(str(path))  # type: ignore[arg-type]
    return SavedModel(name="m", version="1", uri=str(path))


def test_a_pipeline_becomes_pmml_with_rows_to_check_it_by(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    model = saved(classification.LogisticRegression(maxIter=5), training, tmp_path / "model")
    said = pmml.write(model, spark, tmp_path / "model.pmml")
    assert "parity:" in said
    assert "allowed 1e-09" in said
    root = ET.parse(tmp_path / "model.pmml").getroot()
    space = {"p": root.tag.partition("}")[0].lstrip("{")}
    assert {field.get("name") for field in root.findall("p:DataDictionary/p:DataField", space)} >= {"contract", "tenure", "charges"}
    verification = root.find(".//p:ModelVerification", space)
    assert verification is not None
    assert int(verification.get("recordCount", "0")) == pmml.N_ROWS
    assert len(verification.findall("p:InlineTable/p:row", space)) == pmml.N_ROWS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.pmml"]


def test_what_jpmml_cannot_write_is_refused_with_its_reason(spark: SparkSession, training: DataFrame, tmp_path: Path) -> None:
    model = saved(clustering.KMeans(k=2, seed=1), training, tmp_path / "model", encode=False)
    with pytest.raises(ModelError, match=r"cannot be written as PMML: .*; its stages: stage 0 StringIndexerModel"):
        pmml.write(model, spark, tmp_path / "model.pmml")
    assert not (tmp_path / "model.pmml").exists()
