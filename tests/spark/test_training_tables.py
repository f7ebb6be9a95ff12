"""`streaming train` on odd tables: labels of every kind become classes, and every bad input is refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from streaming.demo import churn
from streaming.errors import ConfigError
from streaming.models import manifest
from streaming.training.run import train
from tests.support.training import ROWS, run, saved, section


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return churn.write_training_table(tmp_path_factory.mktemp("data") / "churn.parquet", ROWS, seed=3)


def refusal(spark: SparkSession, data: Path, tmp_path: Path, **changes: Any) -> str:
    """The message with which a training is refused; nothing must be left at the uri."""
    with pytest.raises(ConfigError) as refused:
        train(section(data, **changes), saved(tmp_path / "model"), spark, source="conf/test.yaml")
    assert not list(tmp_path.glob("model*"))
    message = str(refused.value)
    assert message.startswith("conf/test.yaml: ")
    assert "\n" not in message
    return message


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
