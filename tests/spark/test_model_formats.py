"""Every format of a saved model keeps the contract of a model; files that are missing, broken or tampered with say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from streaming import adapters
from streaming.checks.model import MODEL_CHECKS, check_null_never_raises, check_scores_good_rows
from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models.base import OUTPUTS, Model
from tests.support.saved_models import SAVED, rows
from tests.support.usual import usual

SCHEMA = "id INT, contract STRING, tenure INT, charges DOUBLE, input_features ARRAY<DOUBLE>, extra STRUCT<a: INT, b: ARRAY<STRING>>"


def load(saved: SavedModel, spark: SparkSession) -> Model:
    return cast(Model, adapters.model_of(saved.format).load(saved, spark))


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(rows(), SCHEMA).coalesce(1).cache()


@pytest.fixture(scope="module")
def opened(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            save = SAVED[name]
            made[name] = load(save(tmp_path_factory.mktemp("model")), spark)
        return made[name]

    return get


@pytest.mark.parametrize("check", MODEL_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", usual(SAVED, {"sklearn classifier", "pmml tree"}))
def test_contract(name: str, check: Callable[[Model, DataFrame], None], opened: Callable[[str], Model], events: DataFrame) -> None:
    check(opened(name), events)


@dataclass(frozen=True)
class Careless:
    """A format that leaves out what it does not like: an event without an answer."""

    inner: Any
    runs_in_jvm: bool = False
    why_not_jvm: Sequence[str] = ("computed in Python",)

    def inputs(self) -> StructType:
        return self.inner.inputs()

    def transform(self, events: DataFrame) -> DataFrame:
        return self.inner.transform(events.na.drop(subset=["contract"]))


def test_a_format_that_drops_rows_fails_the_contract(opened: Callable[[str], Model], events: DataFrame) -> None:
    careless = Careless(opened("pmml tree"))
    check_scores_good_rows(careless, events)
    with pytest.raises(AssertionError, match="rows for"):
        check_null_never_raises(careless, events)


@pytest.mark.parametrize("name", ["sklearn strict", "pmml tree"])
def test_a_format_on_a_stream_keeps_what_cannot_be_decoded(
    name: str, opened: Callable[[str], Model], spark: SparkSession, tmp_path: Path
) -> None:
    """Decoded events have two structs of their own; of an event that could not be decoded everything else is null."""
    schema = "`a.b` INT, Contract STRING, tenure INT, charges DOUBLE, _event STRUCT<topic: STRING, raw_value: BINARY>, _problem STRUCT<reason: STRING>"
    good, undecoded = (1, "month", 3, 20.0, ("t", b"{}"), None), (None, None, None, None, ("t", b"\xff"), ("invalid_utf8",))
    source = spark.createDataFrame([good, undecoded] * 20, schema).coalesce(1)
    source.write.parquet(str(tmp_path / "in"))
    model = opened(name)
    stream = spark.readStream.schema(source.schema).parquet(str(tmp_path / "in"))
    query = model.transform(stream).writeStream.format("memory").queryName("kept").trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path / "checkpoint")).start().awaitTermination()
    kept = spark.table("kept")
    assert kept.columns == [*source.columns, *OUTPUTS]
    rows = kept.collect()
    assert [row[: len(source.columns)] for row in rows] == [tuple(row) for row in source.collect()]
    for row in rows:
        assert (row["prediction"] is not None) == (row["_problem"] is None)
        assert (row["error"] is None) == (row["_problem"] is None)


@pytest.mark.parametrize("name", usual(SAVED, {"onnx classifier", "pmml regression", "mlflow spark", "mlflow pyfunc"}))
def test_only_spark_and_pmml_stay_in_the_jvm(name: str, opened: Callable[[str], Model]) -> None:
    model = opened(name)
    assert model.runs_in_jvm is (name in {"pmml tree", "pmml regression", "mlflow spark"})
    assert bool(model.why_not_jvm) is not model.runs_in_jvm


def test_errors_name_columns_and_never_values(opened: Callable[[str], Model], spark: SparkSession) -> None:
    odd = spark.createDataFrame(
        [("secret", 1, 1.0), (None, 1, 1.0), ("month", None, math.inf)], "contract STRING, tenure INT, charges DOUBLE"
    )
    assert [row["error"] for row in opened("sklearn strict").transform(odd).collect()] == [
        "Pipeline: contract has a value that the model has never seen",
        "Pipeline: contract is null or NaN",
        "Pipeline: tenure is null or NaN; charges is infinite",
    ]
    assert [row["error"] for row in opened("pmml tree").transform(odd).collect()] == [
        None, "TreeModel: contract is null or NaN", "TreeModel: tenure is null or NaN",
    ]  # fmt: skip


@pytest.mark.parametrize("name", usual(SAVED, {"sklearn pickle", "onnx classifier", "pmml tree", "mlflow pyfunc"}))
def test_other_bytes_than_the_expected_are_refused(name: str, spark: SparkSession, tmp_path: Path) -> None:
    save = SAVED[name]
    with pytest.raises(ModelError, match="changed or tampered with"):
        load(save(tmp_path).model_copy(update={"sha256": "0" * 64}), spark)


def test_events_must_fit(opened: Callable[[str], Model], spark: SparkSession) -> None:
    strict = opened("sklearn strict")
    with pytest.raises(ModelError, match="reads column 'charges'"):
        strict.transform(spark.createDataFrame([("a", 1)], "contract STRING, tenure INT"))
    with pytest.raises(ModelError, match="reads text; the event has it as array<string>"):
        strict.transform(spark.createDataFrame([(["a"], 1, 1.0)], "contract ARRAY<STRING>, tenure INT, charges DOUBLE"))
    with pytest.raises(ModelError, match="a name under which the model answers"):
        strict.transform(spark.createDataFrame([("a", 1, 1.0, 1.0)], "contract STRING, tenure INT, charges DOUBLE, Prediction DOUBLE"))
