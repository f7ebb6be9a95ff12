"""A saved Spark pipeline as an ONNX model that needs no Spark: the same answers, in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pyspark.sql.types import ArrayType, DoubleType, NullType, StringType, StructType

from streaming.convert.converted import Converted
from streaming.convert.spark.bayes_mlp_kmeans import OTHERS
from streaming.convert.spark.features import FEATURES
from streaming.convert.spark.graph import CannotConvert, Graph, Value
from streaming.convert.spark.linear import LINEAR, Predicted
from streaming.convert.spark.trees import TREES
from streaming.errors import ModelError
from streaming.models.spark.known import known_labels, known_types
from streaming.models.spark.metadata import Stage
from streaming.models.spark.pipeline import SparkModel
from streaming.scorers.base import ColumnKind

_PREDICT: Final = {**LINEAR, **TREES, **OTHERS}
#: What stands for null in text inputs; lengthened while a label of the model is equal to it.
_NULL_TEXT: Final = "\ue000null"


def kinds_of(inputs: StructType) -> dict[str, ColumnKind]:
    """The kinds of a SparkModel's inputs. A column of any type is read as text: only StringIndexer takes any."""
    kinds: dict[str, ColumnKind] = {}
    for column in inputs.fields:
        if isinstance(column.dataType, StringType | NullType):
            kinds[column.name] = "text"
        elif isinstance(column.dataType, DoubleType):
            kinds[column.name] = "number"
        elif column.dataType == ArrayType(DoubleType()):
            kinds[column.name] = "vector"
        else:
            raise ModelError(
                f"column {column.name!r}: {column.dataType.simpleString()} has no portable form; expected a number, text or vector"
            )
    return kinds


def convert(model: SparkModel) -> Converted:
    """The portable form of `model`. ModelError names every stage that has none."""
    refused = [f"{stage}: {why}" for stage, _ in model.steps if (why := _why_not(stage))]
    kinds = kinds_of(model.inputs()) if not refused else {}
    labels = known_labels(model) if not refused else {}
    graph = Graph(_unlike(labels), kinds)
    answer: Predicted | None = None
    if not refused:
        types = known_types(model)
        for stage, transform in model.steps:
            try:
                answer = _stage(graph, model, stage, transform.__self__, types) or answer  # type: ignore[attr-defined]
            except CannotConvert as why:
                refused.append(f"{stage}: {why}")
                break
    if refused or answer is None:
        raise ModelError(f"{model.uri}: cannot be converted to ONNX: {'; '.join(refused)}")
    made = graph.finish(answer.prediction, answer.probability, answer.features, model.predictor.flow())
    sizes = {name: value.width for name, value in graph.inputs.items() if kinds[name] == "vector"}
    used: dict[str, ColumnKind] = {name: kinds[name] for name in kinds if name in graph.inputs}
    return Converted(
        model=made,
        kinds=used,
        sizes=sizes,
        types=types,
        null_text=graph.null_text,
        failures=tuple(graph.failures),
        labels={name: some for name, some in labels.items() if name in used},
        linear=answer.linear,
        classes=_classes(model),
        is_classifier=model.kind != "regression",
    )


def _classes(model: SparkModel) -> tuple[str, ...] | None:
    """The labels of the classes, from the training manifest."""
    described = (model.manifest or {}).get("label")
    classes = described.get("classes") if isinstance(described, dict) else None
    if not isinstance(classes, dict) or sorted(classes.values()) != list(range(len(classes))):
        return None
    return tuple(sorted(classes, key=lambda label: int(classes[label]))) or None


def _why_not(stage: Stage) -> str | None:
    if stage.builtin and (stage.name in FEATURES or stage.name in _PREDICT):
        return None
    return f"a {stage.name} has no portable form; those that have one: {', '.join(sorted({*FEATURES, *_PREDICT}))}"


def _stage(graph: Graph, model: SparkModel, stage: Stage, fitted: Any, types: Mapping[str, str]) -> Predicted | None:
    if stage.name in FEATURES:
        FEATURES[stage.name](graph, stage, fitted, types)
        return None
    where = f"{model.copy.readable}/{stage.folder}".rstrip("/")
    answer = _PREDICT[stage.name](graph, replace(stage, folder=where), fitted)
    # For the stages of a stacked model, which read what another model has said.
    graph.write(str(stage.params["predictionCol"]), Value(answer.prediction, 1, None, (None,)))
    if answer.probability is not None and stage.params.get("probabilityCol"):
        graph.write(str(stage.params["probabilityCol"]), replace(answer.probability, sources=(None,) * answer.probability.width))
    return answer


def _unlike(labels: Mapping[str, tuple[str, ...]]) -> str:
    taken = {label for some in labels.values() for label in some}
    text = _NULL_TEXT
    while text in taken:
        text += "\ue000"
    return text
