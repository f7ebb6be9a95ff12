"""What a saved pipeline knows of its columns: the labels of its indexers, the types of its training table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyspark.sql.types import StructType

from streaming.models.spark.fold.formula import opened

if TYPE_CHECKING:
    from streaming.models.spark.pipeline import SparkModel


def known_labels(model: SparkModel) -> dict[str, tuple[str, ...]]:
    """Of each text column the labels of its StringIndexers."""
    labels_of: dict[str, tuple[str, ...]] = {}
    steps: list[tuple[Any, Any]] = [(stage, transform.__self__) for stage, transform in model.steps]  # type: ignore[attr-defined]
    for stage, fitted in opened(steps):
        if stage.name == "StringIndexerModel":
            for name, labels in zip(stage.inputs, fitted.labelsArray, strict=True):
                labels_of[name] = (*labels_of.get(name, ()), *labels)
    return labels_of


def known_types(model: SparkModel) -> dict[str, str]:
    """Column (lower case) -> type, from the schema in the training manifest."""
    features = (model.manifest or {}).get("features")
    ddl = features.get("schema") if isinstance(features, dict) else None
    if not isinstance(ddl, str):
        return {}
    inputs = StructType.fromDDL(ddl)
    assert isinstance(inputs, StructType)
    return {column.name.lower(): column.dataType.simpleString() for column in inputs.fields}
