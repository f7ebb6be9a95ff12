"""`streaming train` on real Spark: the ten algorithms, and the same model from the same rows."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from streaming.demo import churn
from streaming.errors import ConfigError
from streaming.models import manifest
from streaming.monitor import drift
from streaming.monitor import quality as watched_quality
from streaming.monitor.baseline import Baseline
from streaming.monitor.statistics import of_rows
from streaming.scorers.files import MANIFEST
from streaming.training import quality
from streaming.training.run import TrainingReport, train
from tests.support.training import CATEGORICAL, ROWS, run, saved, section

Trained = Callable[..., tuple[TrainingReport, Path]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return churn.write_training_table(tmp_path_factory.mktemp("data") / "churn.parquet", ROWS, seed=3)


@pytest.fixture(scope="module")
def trained(spark: SparkSession, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`trained(algorithm) -> report, path`: a model of `table`, trained once for all tests. Who changes it takes a copy."""
    made: dict[str, tuple[TrainingReport, Path]] = {}

    def get(algorithm: str = "logistic_regression") -> tuple[TrainingReport, Path]:
        if algorithm not in made:
            out = tmp_path_factory.mktemp("trained") / "model"
            changes = {"algorithm": algorithm, "params": SMALL[algorithm]} if algorithm in SMALL else {}
            made[algorithm] = run(spark, table, out, **changes)[0], out
        return made[algorithm]

    return get


def odd_rows(spark: SparkSession) -> Any:
    """Two events: one of nulls, one of categories that no training row has."""
    blank = dict.fromkeys([*CATEGORICAL, *churn.NUMERIC])
    unseen = dict.fromkeys(CATEGORICAL, "never seen") | dict.fromkeys(churn.NUMERIC, 1e6)
    ddl = ", ".join([f"{name} STRING" for name in CATEGORICAL] + [f"{name} DOUBLE" for name in churn.NUMERIC])
    return spark.createDataFrame([Row(**{k: row[k] for k in [*CATEGORICAL, *churn.NUMERIC]}) for row in (blank, unseen)], ddl)


CLASSIFIERS = ["logistic_regression", "random_forest_classifier", "gbt_classifier", "naive_bayes", "mlp_classifier"]
REGRESSORS = ["linear_regression", "random_forest_regressor", "gbt_regressor", "generalized_linear_regression"]
SMALL: dict[str, dict[str, Any]] = {
    "gbt_classifier": {"maxIter": 3}, "gbt_regressor": {"maxIter": 3}, "random_forest_classifier": {"numTrees": 5},
    "random_forest_regressor": {"numTrees": 5}, "mlp_classifier": {"maxIter": 20}, "kmeans": {"k": 3},
}  # fmt: skip
#: One of each family runs every time, the others in the campaign.
USUAL = {"random_forest_classifier", "linear_regression", "kmeans"}


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(name, marks=() if name in USUAL else pytest.mark.campaign) for name in (*CLASSIFIERS, *REGRESSORS, "kmeans")],
)
def test_each_algorithm_trains_saves_and_answers_every_event(
    spark: SparkSession, table: Path, tmp_path: Path, algorithm: str, trained: Trained
) -> None:
    if algorithm in CLASSIFIERS and algorithm in SMALL:
        report, path = trained(algorithm)
    else:
        path = tmp_path / "model"
        changes: dict[str, Any] = {"algorithm": algorithm, "params": SMALL.get(algorithm, {})}
        if algorithm not in CLASSIFIERS:
            numeric = tuple(name for name in churn.NUMERIC if name != "total_charges")
            changes |= {"label": "total_charges", "positive_label": None, "numeric": numeric}
        report, _ = run(spark, table, path, **changes)
    model = PipelineModel.load(str(path))

    assert report.rows_read == report.rows_used == ROWS
    assert 0 < report.rows_test < report.rows_train
    assert [p.name for p in path.parent.iterdir()] == ["model"]
    answers = model.transform(odd_rows(spark)).select("prediction").collect()
    assert len(answers) == 2
    assert all(row.prediction is not None and math.isfinite(row.prediction) for row in answers)

    if algorithm in CLASSIFIERS:
        assert set(report.metrics) == set(report.baseline) == {"area_under_roc", "area_under_pr", "accuracy", "log_loss"}
        assert report.metrics["area_under_roc"] > 0.7
    elif algorithm in REGRESSORS:
        assert report.metrics["rmse"] < 0.6 * report.baseline["rmse"]
        assert report.metrics["r2"] > 0.5 > 0.1 > report.baseline["r2"]
    else:
        assert -1 <= report.metrics["silhouette"] <= 1
        assert report.baseline == {}


def test_the_probability_follows_the_law(spark: SparkSession, tmp_path: Path) -> None:
    data = churn.write_training_table(tmp_path / "big.parquet", 8000, seed=5)
    report, model = run(spark, data, tmp_path / "model", categorical=churn.CATEGORICAL, params={"maxIter": 50})
    assert report.metrics["area_under_roc"] > 0.80
    assert report.metrics["log_loss"] < report.baseline["log_loss"] - 0.1
    fresh = churn.customers(500, seed=6)
    scored = model.transform(spark.createDataFrame(pd.DataFrame(fresh))).select("probability").toPandas()["probability"]
    truth = churn.churn_probability(fresh, regime=churn.BEFORE)
    assert np.abs(np.array([p[1] for p in scored]) - truth).mean() < 0.05
    the_stream_is_held_against(
        Baseline.from_json(json.loads((tmp_path / "model" / MANIFEST).read_text())[manifest.BASELINE], where="manifest"), report
    )


def the_stream_is_held_against(base: Baseline, report: TrainingReport) -> None:
    """What the monitor needs of a training is in the manifest: the rows trained with, and the quality on those held out."""
    assert base.rows == report.rows_train
    assert {column.name for column in base.layout.columns} == {*churn.CATEGORICAL, *churn.NUMERIC}
    vector = base.statistics.get("", "quality:churn")
    assert vector is not None
    measured = {m.name: m.value for m in watched_quality.measures(vector, task="probability")}
    assert vector[watched_quality.N] == report.rows_test
    assert measured["accuracy"] == pytest.approx(report.metrics["accuracy"])
    assert measured["area_under_roc"] == pytest.approx(report.metrics["area_under_roc"], abs=0.005)  # ties within a cell
    new = pd.DataFrame(churn.customers(2000, seed=6))
    for factor, names in ((1.0, set()), (1.25, {"monthly_charges"})):
        window = of_rows(pa.Table.from_pandas(new.assign(monthly_charges=new["monthly_charges"] * factor)), base.layout)
        assert {f.subject for f in drift.judge(window, base) if f.drifted} == names


def test_the_areas_are_those_of_spark(spark: SparkSession) -> None:
    """With ties, in several partitions; Spark's own last digits depend on the order in which its tasks end."""
    rows = [(float((i * 13) % 7 > 3), Vectors.dense([-s, s])) for i in range(200) for s in [float((i * 37) % 23) - 11.0]]
    scored = spark.createDataFrame(rows, ["_label", "rawPrediction"]).repartition(3)
    spark_says = BinaryClassificationEvaluator(labelCol="_label", numBins=0)
    expected = [spark_says.setMetricName(name).evaluate(scored) for name in ("areaUnderROC", "areaUnderPR")]
    assert quality.areas(scored) == pytest.approx(expected, rel=1e-12)
    assert len({quality.areas(scored.repartition(n)) for n in (1, 2, 5)}) == 1


@pytest.mark.parametrize("as_csv", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_shuffled_rows_in_other_files_give_the_same_model_bit_for_bit(
    spark: SparkSession, table: Path, tmp_path: Path, as_csv: bool, trained: Trained
) -> None:
    rows = pd.read_parquet(table)
    many = tmp_path / "many"
    spark.createDataFrame(rows.sample(frac=1.0, random_state=1)).repartition(7).write.parquet(str(many))
    rows.sample(frac=1.0, random_state=2)[sorted(rows.columns)].to_csv(tmp_path / "same.csv", index=False)
    first, path = trained()
    first_model = PipelineModel.load(str(path))
    report, model = run(spark, tmp_path / "same.csv" if as_csv else many, tmp_path / "again")
    events = spark.read.parquet(str(table))
    expected = [row.probability for row in first_model.transform(events).select("probability").collect()]
    assert (report.rows_train, report.metrics) == (first.rows_train, first.metrics)
    assert np.array_equal(model.stages[-1].coefficients.toArray(), first_model.stages[-1].coefficients.toArray())
    assert model.stages[-1].intercept == first_model.stages[-1].intercept
    assert [stage.uid for stage in model.stages] == [stage.uid for stage in first_model.stages]
    assert [row.probability for row in model.transform(events).select("probability").collect()] == expected
    hashes = {manifest.read(spark, str(place))["data"]["hash"] for place in (path, tmp_path / "again")}  # type: ignore[index]
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "algorithm",
    [
        "random_forest_classifier",
        *(pytest.param(name, marks=pytest.mark.campaign) for name in ("gbt_classifier", "mlp_classifier", "kmeans")),
    ],
)
def test_algorithms_that_draw_lots_draw_the_same_ones(
    spark: SparkSession, table: Path, tmp_path: Path, algorithm: str, trained: Trained
) -> None:
    many = tmp_path / "many"
    spark.read.parquet(str(table)).orderBy(F.rand(7)).repartition(5).write.parquet(str(many))
    changes: dict[str, Any] = {
        "algorithm": algorithm,
        "params": SMALL[algorithm] | ({"subsamplingRate": 0.5} if algorithm == "gbt_classifier" else {}),
    }
    events = spark.read.parquet(str(table))
    if algorithm == "random_forest_classifier":
        first = PipelineModel.load(str(trained(algorithm)[1]))
    else:
        _, first = run(spark, table, tmp_path / "first", **changes)
    _, second = run(spark, many, tmp_path / "second", **changes)
    wanted = ["prediction"] if algorithm == "kmeans" else ["prediction", "probability"]
    answers = [model.transform(events).select(*wanted).collect() for model in (first, second)]
    assert answers[0] == answers[1]


@pytest.mark.campaign
def test_another_seed_or_one_changed_value_is_another_training(spark: SparkSession, table: Path, tmp_path: Path) -> None:
    rows = pd.read_parquet(table)
    rows.loc[0, "monthly_charges"] += 1.0
    rows.to_parquet(tmp_path / "changed.parquet")
    run(spark, table, tmp_path / "a")
    run(spark, tmp_path / "changed.parquet", tmp_path / "b")
    run(spark, table, tmp_path / "c", seed=43)
    a, b, c = (manifest.read(spark, str(tmp_path / name)) for name in "abc")
    assert a is not None
    assert b is not None
    assert c is not None
    assert a["data"]["hash"] != b["data"]["hash"]
    assert a["data"]["hash"] == c["data"]["hash"]
    assert a["metrics"] != c["metrics"]


def test_the_manifest_says_what_was_done(spark: SparkSession, trained: Trained) -> None:
    report, path = trained()
    written = manifest.read(spark, str(path))
    assert written is not None
    json.dumps(written, allow_nan=False)
    assert (written["name"], written["version"], written["algorithm"], written["params"]) == (
        "churn",
        "v1",
        "logistic_regression",
        {"maxIter": 10},
    )
    assert written["features"]["categorical"] == list(CATEGORICAL)
    assert "tenure BIGINT" in written["features"]["schema"]
    assert written["label"] == {"column": "churn", "positive": "Yes", "classes": {"No": 0, "Yes": 1}}
    assert written["rows"] == {"read": ROWS, "without_label": 0, "train": report.rows_train, "test": report.rows_test}
    assert written["metrics"] == dict(report.metrics)
    assert re.fullmatch(r"[0-9a-f]{16}", written["data"]["hash"])
    assert written["made_by"]["spark"].startswith("4.")
    assert written["trained_at"].endswith("+00:00")
    assert re.fullmatch(r"[0-9a-f]{64}", report.sha256)
    assert report.sha256 == manifest.fingerprint(spark, str(path))
    assert "area_under_roc" in report.text()


def test_what_stands_at_the_uri_is_replaced_only_when_asked(spark: SparkSession, table: Path, tmp_path: Path, trained: Trained) -> None:
    shutil.copytree(trained()[1], tmp_path / "model")
    with pytest.raises(ConfigError, match=r"exists already.*--overwrite"):
        train(section(table), saved(tmp_path / "model"), spark, source="x.yaml")
    train(section(table, algorithm="naive_bayes"), saved(tmp_path / "model"), spark, source="x.yaml", overwrite=True)
    assert type(PipelineModel.load(str(tmp_path / "model")).stages[-1]).__name__ == "NaiveBayesModel"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failure_while_saving_leaves_the_old_model_and_no_litter(
    spark: SparkSession, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    shutil.copytree(trained()[1], tmp_path / "model")
    before = (
        (tmp_path / "model" / "metadata" / "part-00000").read_bytes() if (tmp_path / "model" / "metadata" / "part-00000").exists() else b""
    )

    def broken(*_: object) -> str:
        raise OSError("the disk is full")

    monkeypatch.setattr(manifest, "write", broken)
    with pytest.raises(OSError, match="full"):
        train(section(table), saved(tmp_path / "model"), spark, source="x.yaml", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (not before) or (tmp_path / "model" / "metadata" / "part-00000").read_bytes() == before
    PipelineModel.load(str(tmp_path / "model"))
