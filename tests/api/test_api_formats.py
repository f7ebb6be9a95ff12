"""Every format that needs no Spark answers over HTTP: what the table of formats lists is what is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from streaming import adapters
from streaming.api import sources
from streaming.api.app import create_app
from streaming.api.served import Models
from streaming.config.sections import Api, SavedModel
from streaming.errors import ModelError
from tests.support import saved_models
from tests.support.api_server import serving

ROW = {"contract": "month", "tenure": 3, "charges": 20.0}
OTHER = {"contract": "year", "tenure": 70, "charges": 5.0}


def config(folder: Path, section: SavedModel) -> Path:
    tree = {
        "name": "m",
        "kafka": {"bootstrap_servers": "localhost:1"},
        "events": {"topic": "e", "schema": "id STRING", "key": "id"},
        "model": section.model_dump(exclude_defaults=True) | {"name": "m", "version": "1"},
        "predictions": {"topic": "p", "rejected_topic": "r"},
        "store": {"kind": "sqlite", "path": str(folder / "predictions.db")},
        "state": str(folder / "state"),
    }
    path = folder / "api.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def served(folder: Path, section: SavedModel, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    source = sources.ConfigSource(config(folder, section))
    with serving(create_app(Models({"m": source}), None, Api())) as client:
        reply = client.post("/v1/models/m:predict", json={"instances": rows})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["predictions"])


def fitted(row: dict[str, Any]) -> float:
    """What scikit-learn itself says: the three files below hold this estimator."""
    return float(saved_models.pipeline(LogisticRegression()).predict(pd.DataFrame([row]))[0])


def leaf(row: dict[str, Any]) -> float:
    """What a person reads in the document: "yes", the second class, for a short monthly contract."""
    return float(row["contract"] == "month" and row["tenure"] < 24)


@pytest.mark.parametrize(
    ("save", "answer_of", "names"),
    [
        pytest.param(saved_models.pmml_tree, leaf, ("contract", "tenure"), id="pmml"),
        pytest.param(saved_models.mlflow_onnx, fitted, tuple(ROW), id="mlflow"),
        pytest.param(saved_models.onnx_classifier, fitted, tuple(ROW), id="onnx"),
        pytest.param(saved_models.sklearn_classifier, fitted, tuple(ROW), id="sklearn"),
    ],
)
def test_a_model_of_each_format_answers(
    save: Callable[[Path], SavedModel], answer_of: Callable[[dict[str, Any]], float], names: tuple[str, ...], tmp_path: Path
) -> None:
    rows = [{name: row[name] for name in names} for row in (ROW, OTHER)]
    answers = served(tmp_path, save(tmp_path), rows)
    assert [answer["prediction"] for answer in answers] == [answer_of(row) for row in rows]
    assert {len(answer["probability"]) for answer in answers} == {2}


def test_only_spark_itself_goes_through_a_package() -> None:
    assert [name for name, known in adapters.FORMATS.items() if not known.scorer] == ["spark"]
    with pytest.raises(ModelError, match="formats that need no Spark: sklearn, onnx, pmml, mlflow"):
        adapters.scorer_of("spark")
    with pytest.raises(ModelError, match="pmml cannot be made portable; formats that can: spark, sklearn, onnx"):
        adapters.original_of("pmml")


def test_the_configuration_takes_exactly_the_formats_of_the_table() -> None:
    assert set(SavedModel.model_fields["format"].annotation.__args__) == set(adapters.FORMATS)  # type: ignore[union-attr]
