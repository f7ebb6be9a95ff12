"""`streaming train` on real Spark: the ten algorithms, the same model from the same rows, and every bad input refused in words."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from streaming.config.sections import SavedModel, Train
from streaming.demo import churn
from streaming.errors import ConfigError
from streaming.models import manifest
from streaming.training.run import TrainingReport, train

ROWS = 800
CATEGORICAL = ("contract", "internet_service", "payment_method", "paperless_billing")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return churn.write_training_table(tmp_path_factory.mktemp("data") / "churn.parquet", ROWS, seed=3)


def section(data: Path, **changes: Any) -> Train:
    plain = {"data": str(data), "label": "churn", "positive_label": "Yes", "categorical": CATEGORICAL, "numeric": churn.NUMERIC}
    quick = {"params": {"maxIter": 10}} if "algorithm" not in changes else {}
    return Train.model_validate(plain | quick | {"format": "csv" if data.suffix == ".csv" else "parquet"} | changes)


def saved(path: Path) -> SavedModel:
    return SavedModel(name="churn", version="v1", uri=str(path))


def run(spark: SparkSession, data: Path, out: Path, **changes: Any) -> tuple[TrainingReport, PipelineModel]:
    report = train(section(data, **changes), saved(out), spark, source="conf/test.yaml")
    return report, PipelineModel.load(str(out))


def refusal(spark: SparkSession, data: Path, tmp_path: Path, **changes: Any) -> str:
    """The message with which a training is refused; nothing must be left at the uri."""
    with pytest.raises(ConfigError) as refused:
        train(section(data, **changes), saved(tmp_path / "model"), spark, source="conf/test.yaml")
    assert not list(tmp_path.glob("model*"))
    message = str(refused.value)
    assert message.startswith("conf/test.yaml: ")
    assert "\n" not in message
    return message


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
def test_each_algorithm_trains_saves_and_answers_every_event(spark: SparkSession, table: Path, tmp_path: Path, algorithm: str) -> None:
    changes: dict[str, Any] = {"algorithm": algorithm, "params": SMALL.get(algorithm, {})}
    if algorithm not in CLASSIFIERS:
        numeric = tuple(name for name in churn.NUMERIC if name != "total_charges")
        changes |= {"label": "total_charges", "positive_label": None, "numeric": numeric}
    report, model = run(spark, table, tmp_path / "model", **changes)

    assert report.rows_read == report.rows_used == ROWS
    assert 0 < report.rows_test < report.rows_train
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
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


@pytest.mark.parametrize("as_csv", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_shuffled_rows_in_other_files_give_the_same_model_bit_for_bit(
    spark: SparkSession, table: Path, tmp_path: Path, as_csv: bool
) -> None:
    rows = pd.read_parquet(table)
    many = tmp_path / "many"
    spark.createDataFrame(rows.sample(frac=1.0, random_state=1)).repartition(7).write.parquet(str(many))
    rows.sample(frac=1.0, random_state=2)[sorted(rows.columns)].to_csv(tmp_path / "same.csv", index=False)
    trained = [run(spark, data, tmp_path / f"model-{i}") for i, data in enumerate([table, tmp_path / "same.csv" if as_csv else many])]
    first, first_model = trained[0]
    events = spark.read.parquet(str(table))
    expected = [row.probability for row in first_model.transform(events).select("probability").collect()]
    for report, model in trained[1:]:
        assert (report.rows_train, report.metrics) == (first.rows_train, first.metrics)
        assert np.array_equal(model.stages[-1].coefficients.toArray(), first_model.stages[-1].coefficients.toArray())
        assert model.stages[-1].intercept == first_model.stages[-1].intercept
        assert [stage.uid for stage in model.stages] == [stage.uid for stage in first_model.stages]
        assert [row.probability for row in model.transform(events).select("probability").collect()] == expected
    hashes = {manifest.read(spark, str(tmp_path / f"model-{i}"))["data"]["hash"] for i in range(2)}  # type: ignore[index]
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "algorithm",
    [
        "random_forest_classifier",
        *(pytest.param(name, marks=pytest.mark.campaign) for name in ("gbt_classifier", "mlp_classifier", "kmeans")),
    ],
)
def test_algorithms_that_draw_lots_draw_the_same_ones(spark: SparkSession, table: Path, tmp_path: Path, algorithm: str) -> None:
    many = tmp_path / "many"
    spark.read.parquet(str(table)).orderBy(F.rand(7)).repartition(5).write.parquet(str(many))
    changes: dict[str, Any] = {
        "algorithm": algorithm,
        "params": SMALL[algorithm] | ({"subsamplingRate": 0.5} if algorithm == "gbt_classifier" else {}),
    }
    events = spark.read.parquet(str(table))
    answers = []
    for i, data in enumerate([table, many]):
        _, model = run(spark, data, tmp_path / f"model-{i}", **changes)
        wanted = ["prediction"] if algorithm == "kmeans" else ["prediction", "probability"]
        answers.append(model.transform(events).select(*wanted).collect())
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


def test_the_manifest_says_what_was_done(spark: SparkSession, table: Path, tmp_path: Path) -> None:
    report, _ = run(spark, table, tmp_path / "model", params={"regParam": 0.01})
    written = manifest.read(spark, str(tmp_path / "model"))
    assert written is not None
    json.dumps(written, allow_nan=False)
    assert (written["name"], written["version"], written["algorithm"], written["params"]) == (
        "churn",
        "v1",
        "logistic_regression",
        {"regParam": 0.01},
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
    assert report.sha256 == manifest.fingerprint(spark, str(tmp_path / "model"))
    assert "area_under_roc" in report.text()


def test_what_stands_at_the_uri_is_replaced_only_when_asked(spark: SparkSession, table: Path, tmp_path: Path) -> None:
    run(spark, table, tmp_path / "model")
    with pytest.raises(ConfigError, match=r"exists already.*--overwrite"):
        train(section(table), saved(tmp_path / "model"), spark, source="x.yaml")
    train(section(table, algorithm="naive_bayes"), saved(tmp_path / "model"), spark, source="x.yaml", overwrite=True)
    assert type(PipelineModel.load(str(tmp_path / "model")).stages[-1]).__name__ == "NaiveBayesModel"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_failure_while_saving_leaves_the_old_model_and_no_litter(
    spark: SparkSession, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spark, table, tmp_path / "model")
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


def labelled(tmp_path: Path, values: list[Any], name: str = "t.parquet") -> Path:
    """A table of x and y, each label of `values` 30 times, x close to the label's place."""
    rows = [(i + 0.01 * j, value) for i, value in enumerate(values) for j in range(30)]
    frame = pd.DataFrame(rows, columns=["x", "y"])
    frame.to_csv(tmp_path / name, index=False) if name.endswith("csv") else frame.to_parquet(tmp_path / name)
    return tmp_path / name


XY: dict[str, Any] = {"label": "y", "positive_label": None, "categorical": (), "numeric": ("x",)}


@pytest.mark.parametrize(
    ("values", "name", "changes", "classes"),
    [
        (["b", "a", "c", "c"], "t.parquet", {}, {"c": 0, "a": 1, "b": 2}),
        pytest.param([3, 1, 7], "t.parquet", {}, {"1": 0, "3": 1, "7": 2}, marks=pytest.mark.campaign),
        pytest.param([-1, 1], "t.csv", {}, {"-1": 0, "1": 1}, marks=pytest.mark.campaign),
        pytest.param([True, True, False], "t.parquet", {}, {"true": 1, "false": 0}, marks=pytest.mark.campaign),
        pytest.param([True, True, False], "t.csv", {}, {"True": 1, "False": 0}, marks=pytest.mark.campaign),
        (["b", "a", "c"], "t.csv", {"positive_label": "a"}, {"a": 1, "b": 0, "c": 0}),
    ],
)
def test_labels_become_classes(
    spark: SparkSession, tmp_path: Path, values: list[Any], name: str, changes: dict[str, Any], classes: Any
) -> None:
    report, model = run(spark, labelled(tmp_path, values, name), tmp_path / "model", **XY | changes)
    written = manifest.read(spark, str(tmp_path / "model"))
    assert written is not None
    assert written["label"]["classes"] == classes
    event = spark.createDataFrame([(0.1,)], "x double")
    assert len(model.transform(event).collect()[0].probability) == len(set(classes.values()))
    assert ("f1" in report.metrics) == (len(set(classes.values())) > 2)


@pytest.mark.parametrize(
    ("name", "none"),
    [
        pytest.param("t.csv", None, marks=pytest.mark.campaign),
        ("t.parquet", None),
        pytest.param("n.parquet", float("nan"), marks=pytest.mark.campaign),
    ],
)
def test_rows_without_a_label_are_dropped_and_counted(spark: SparkSession, tmp_path: Path, name: str, none: float | None) -> None:
    report, _ = run(spark, labelled(tmp_path, [0, 1, none], name), tmp_path / "model", **XY)
    assert (report.rows_read, report.rows_without_label, report.rows_used) == (90, 30, 60)


@pytest.mark.campaign
def test_blanks_in_a_csv_number_are_missing_values(spark: SparkSession, table: Path, tmp_path: Path) -> None:
    rows = pd.read_parquet(table)
    rows["total_charges"] = rows["total_charges"].astype(object)
    rows.loc[::50, "total_charges"] = " "
    rows.to_csv(tmp_path / "t.csv", index=False)
    report, _ = run(spark, tmp_path / "t.csv", tmp_path / "model")
    assert report.rows_used == ROWS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"categorical": ("contrct",)}, r"train\.categorical: .*no column 'contrct'; its columns: .*contract"),
        ({"numeric": ("tenur",)}, r"train\.numeric: .*no column 'tenur'"),
        ({"label": "chrun"}, r"train\.label: .*no column 'chrun'"),
        ({"positive_label": "yes"}, r"positive_label: 'yes' does not occur in churn; it has 'No', 'Yes'"),
        ({"categorical": (), "numeric": ()}, r"no features"),
        ({"numeric": ("tenure", "contract")}, r"contract stands under train\.categorical too"),
        ({"numeric": ("gender",)}, r"train\.numeric: gender is string; expected a number"),
        ({"params": {"maxIters": 3}}, r"train\.params\.maxIters: .*no such parameter; valid: .*maxIter,"),
        ({"params": {"maxIter": "many"}}, r"train\.params\.maxIter: got 'many' \(str\)"),
        ({"params": {"regParam": -1.0}}, r"train\.params\.regParam: got -1\.0; expected: .*>= 0"),
        ({"params": {"labelCol": "churn"}}, r"train\.params\.labelCol: .*no such parameter"),
        ({"algorithm": "linear_regression", "positive_label": None}, r"train\.label: churn is string; linear_regression expects a number"),
        ({"algorithm": "linear_regression"}, r"train\.positive_label: only for classifiers"),
        ({"label": "monthly_charges", "numeric": ("tenure",), "positive_label": None}, r"more than 100 different values"),
        (
            {"algorithm": "gbt_classifier", "label": "payment_method", "categorical": (), "positive_label": None},
            r"4 classes .*tells two apart",
        ),
        ({"algorithm": "naive_bayes", "params": {"modelType": "bernoulli"}}, r"naive_bayes cannot learn from .*: .*"),
        (
            {"algorithm": "mlp_classifier", "params": {"layers": [3, 2]}},
            r"params\.layers: got \[3, 2\]; expected the first to be 16 .* and the last 2",
        ),
        ({"test_fraction": 1e-7}, r"test_fraction: 1e-07 leaves 800 rows to train and 0 to test"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    spark: SparkSession, table: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    message = refusal(spark, table, tmp_path, **changes)
    assert re.search(says, message), message


_BAD_TABLES = {"empty.csv": "", "header.csv": "x,y\n", "one.csv": "x,y\n1,0\n2,0\n3,0\n", "text.csv": "x,y\n1,0\n2,1\nabc,1\n",
               "no.parquet": "this is no Parquet file", "fraction.csv": "x,y\n1,0.5\n2,1.25\n"}  # fmt: skip


def test_bad_tables_are_refused_in_words(spark: SparkSession, tmp_path: Path) -> None:
    x = {"label": "y", "positive_label": None, "categorical": (), "numeric": ("x",)}
    for name, text in _BAD_TABLES.items():
        (tmp_path / name).write_text(text)
    pd.DataFrame({"x": [None, None], "y": [0, 1]}, dtype="float64").to_parquet(tmp_path / "void.parquet")
    expected = {
        "missing.csv": "no such file",
        "empty.csv": "is empty",
        "header.csv": "no usable rows",
        "one.csv": "one class only",
        "text.csv": "x: 1 rows of .* are no number",
        "no.parquet": "cannot be read as parquet",
        "fraction.csv": "numbers with fractions",
        "void.parquet": "x has no value in any row",
    }
    for name, says in expected.items():
        message = refusal(spark, tmp_path / name, tmp_path, **x)
        assert re.search(says, message), message
    message = refusal(spark, tmp_path / "text.csv", tmp_path, **x | {"label": "x", "numeric": ("y",), "algorithm": "linear_regression"})
    assert "x: 1 rows are no number" in message
