"""Saved MLflow models as a Scorer: the flavour with the safest reader is taken, and MLflow itself only for bare Python code."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import yaml

from streaming.config.sections import SavedModel
from streaming.errors import EnvironmentFailure, ModelError
from streaming.scorers.base import Scorer
from streaming.scorers.files import Package
from streaming.scorers.sklearn_columns import EstimatorColumn

DESCRIPTION: Final = "MLmodel"
#: MLflow's types of columns, as pandas has them.
_PANDAS: Final = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool", "string": "object"}
#: Best first: readers that run no code, then those that need trust. `spark` is opened by Spark, not here.
_FLAVOURS: Final = ("spark", "onnx", "sklearn", "python_function")


def flavour(uri: str, described: bytes) -> tuple[str, Mapping[str, Any], list[EstimatorColumn], dict[str, str]]:
    """From the text of an MLmodel file: the flavour to open, its settings, and the columns and pandas types of its signature.

    A model without a signature, or with one of tensors, has no columns. ModelError when the file cannot be read or no
    flavour can be opened.
    """
    where = f"{uri}/{DESCRIPTION}"
    try:
        tree = yaml.safe_load(described)
        flavours: Mapping[str, Any] = tree["flavors"]
        chosen = next((name for name in _FLAVOURS if name in flavours), None)
        listed = json.loads((tree.get("signature") or {}).get("inputs") or "[]")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as broken:
        raise ModelError(f"{where}: not a description of an MLflow model; save the model again") from broken
    if chosen is None:
        raise ModelError(f"{where}: flavours {', '.join(flavours)}; expected one of {', '.join(_FLAVOURS)}")
    if not isinstance(flavours[chosen], Mapping) or not all(isinstance(entry, Mapping) for entry in listed):
        raise ModelError(f"{where}: not a description of an MLflow model; save the model again")
    columns, types = [], {}
    for entry in listed:
        name, kind = entry.get("name"), entry.get("type")
        if kind == "tensor":
            return chosen, flavours[chosen], [], {}
        if kind not in _PANDAS or not isinstance(name, str) or not name:
            raise ModelError(f"{where}: signature: column {name!r} is {kind}; a model on a stream reads {', '.join(_PANDAS)}")
        columns.append(EstimatorColumn(name, "text" if kind == "string" else "number", None if kind == "string" else np.nan))
        types[name] = _PANDAS[kind]
    return chosen, flavours[chosen], columns, types


def open_scorer(package: Package, section: SavedModel) -> Scorer:
    """The model in the MLflow folder `package`, ready to score. ModelError when it is not that of `section`, or may not be opened."""
    return open_mlflow(package.verified(section.sha256), trust=section.trust, allow=section.allow_classes)


def open_mlflow(package: Package, *, trust: bool = False, allow: Sequence[str] = ()) -> Scorer:
    """The model of a checked MLflow folder, ready to score. ModelError when it may not be opened, is broken, or needs Spark."""
    described = package.files.get(DESCRIPTION)
    if not package.is_folder or described is None:
        raise ModelError(f"{package.uri}: no MLflow model; expected the folder that holds {DESCRIPTION}")
    chosen, settings, columns, types = flavour(package.uri, described)
    if chosen == "onnx":
        from streaming.scorers.onnx import open_package

        return open_package(package.file(str(settings.get("data", "model.onnx"))))
    if chosen == "sklearn":
        from streaming.scorers.sklearn import open_sklearn

        # What the model itself lists as trusted types is not asked: it would be vouching for itself.
        file = package.file(str(settings.get("pickled_model", "model.skops")))
        return open_sklearn(file, trust=trust, allow=allow, signature=columns)
    if chosen == "python_function":
        return _open_python(package, settings, columns, types, trust=trust)
    raise ModelError(f"{package.uri}: a Spark ML pipeline, which only the job can score; expected a model that scores without Spark")


def _open_python(
    package: Package, settings: Mapping[str, Any], columns: list[EstimatorColumn], types: dict[str, str], *, trust: bool
) -> Scorer:
    from streaming.scorers.sklearn import SklearnScorer

    loader = settings.get("loader_module", "unknown")
    if not trust:
        raise ModelError(f"{package.uri}: a python_function (loader {loader}): opening it runs whatever Python code is in it, with the rights of this "
                         "service. If you know who made it, set model.trust: true and model.sha256")  # fmt: skip
    package.vouched_for()
    if not columns:
        raise ModelError(f"{package.uri}: no signature with named columns, so nobody can tell what it reads; "
                         "save it again with signature=infer_signature(inputs, outputs)")  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mlflow import pyfunc
    except ModuleNotFoundError as missing:
        raise EnvironmentFailure(
            f"mlflow: the Python package {missing.name!r} is not installed; install it with: pip install 'streaming-scoring[mlflow]'"
        ) from missing
    # Code and artifacts of the model are read when they are needed: this copy lasts as long as the process.
    folder = package.on_disk_for_good()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = pyfunc.load_model(str(folder))
    except Exception as broken:  # any code may run, and fail, here
        raise ModelError(f"{package.uri}: cannot be opened: {type(broken).__name__}: {broken}; save the model again") from broken
    return SklearnScorer(package.uri, _PythonFunction(model, types), tuple(columns), 0)


@dataclass(frozen=True)
class _PythonFunction:
    """A python_function with the face of an estimator: predict takes a DataFrame and gives one number a row."""

    model: Any = field(repr=False)
    types: dict[str, str]

    def predict(self, table: pd.DataFrame) -> Any:
        predicted = np.asarray(self.model.predict(table.astype(self.types)))
        if len(predicted) != len(table):
            raise ValueError(f"{len(predicted)} answers for {len(table)} rows")
        return predicted[:, 0] if predicted.ndim == 2 and predicted.shape[1] == 1 else predicted
