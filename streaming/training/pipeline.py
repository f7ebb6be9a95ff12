"""The pipeline that `streaming train` saves: an event's own columns in, `features` and a prediction out.

    categorical ─► StringIndexer ─► OneHotEncoder ───────────────────┐
    numeric ─────► Imputer ─► VectorAssembler ─► (StandardScaler) ───┴─► VectorAssembler ─► algorithm

Every event gets an answer: a missing number is replaced by the median of the training rows, a missing or unseen
category becomes all zeros. One-hot also before trees: an index would need `maxBins` above the number of categories.
The label never enters the pipeline, so an event needs no label column.
"""

from __future__ import annotations

from typing import Any

from pyspark.ml import Estimator, Pipeline, PipelineModel, Transformer, feature
from pyspark.sql import DataFrame

from streaming.config.sections import Train
from streaming.errors import ConfigError
from streaming.training.algorithms import ALGORITHMS, build, named


def feature_stages(section: Train) -> list[Estimator[Any] | Transformer]:
    """The stages that turn an event's columns into the vector `features`."""
    stages: list[Any] = []
    parts: list[str] = []
    if section.numeric:
        filled = [f"{name}__filled" for name in section.numeric]
        stages += [
            named(feature.Imputer(inputCols=list(section.numeric), outputCols=filled, strategy="median"), "fill_missing"),
            named(feature.VectorAssembler(inputCols=filled, outputCol="_numeric", handleInvalid="keep"), "numeric"),
        ]
        parts.append("_numeric")
        if ALGORITHMS[section.algorithm].scale:
            stages.append(named(feature.StandardScaler(inputCol="_numeric", outputCol="_scaled", withMean=True, withStd=True), "scale"))
            parts = ["_scaled"]
    if section.categorical:
        indexed, encoded = [f"{name}__index" for name in section.categorical], [f"{name}__onehot" for name in section.categorical]
        stages += [
            # "keep" gives one bucket after the known categories to what is null or unseen; ties in frequency go by the alphabet.
            named(feature.StringIndexer(inputCols=list(section.categorical), outputCols=indexed, handleInvalid="keep"), "index_categories"),
            # dropLast drops exactly that bucket: every known category has its own column, the unknown is all zeros.
            named(feature.OneHotEncoder(inputCols=indexed, outputCols=encoded, dropLast=True), "encode_categories"),
        ]
        parts += encoded
    stages.append(named(feature.VectorAssembler(inputCols=parts, outputCol="features", handleInvalid="keep"), "features"))
    return stages


def fit(train: DataFrame, section: Train, *, classes: int, source: str) -> PipelineModel:
    """Fit the whole pipeline on rows that have the features and, unless clustering, `_label`. The model's uids are fixed names."""
    predictor = build(section.algorithm, section.params, seed=section.seed, source=source)
    prepared = named(Pipeline(stages=feature_stages(section)), "prepare").fit(train)
    ready = prepared.transform(train)
    if section.algorithm == "mlp_classifier":
        predictor._set(layers=_layers(ready, section, classes=classes, source=source))
    model = predictor.fit(ready)
    return named(PipelineModel([*prepared.stages, model]), "streaming_train")


def _layers(ready: DataFrame, section: Train, *, classes: int, source: str) -> list[int]:
    """The layers of the perceptron: as configured, when they fit the features and the classes; else one hidden layer of 16."""
    first = ready.select("features").first()
    assert first is not None, "the caller has refused an empty table"
    inputs = int(first["features"].size)
    layers = [int(size) for size in section.params.get("layers", [inputs, 16, classes])]
    if len(layers) < 2 or (layers[0], layers[-1]) != (inputs, classes):
        raise ConfigError(
            f"{source}: train.params.layers: got {layers}; expected the first to be {inputs} (features after encoding) "
            f"and the last {classes} (classes), or no layers at all for [{inputs}, 16, {classes}]"
        )
    return layers
