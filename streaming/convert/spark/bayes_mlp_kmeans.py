"""Spark ML's naive Bayes, multilayer perceptron and k-means as ONNX nodes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from streaming.convert.spark.graph import CannotConvert, Graph, Value, affine
from streaming.convert.spark.linear import Predict, Predicted, argmax, features_of, label
from streaming.models.spark.metadata import Stage


def naive_bayes(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """log P(class) + log P(features | class), and their softmax."""
    features = features_of(graph, stage, fitted.numFeatures)
    pi, theta = fitted.pi.toArray(), fitted.theta.toArray()
    kind = str(fitted.getModelType())
    if kind in {"multinomial", "complement"}:
        _demand(graph, stage, graph.add("GreaterOrEqual", features.tensor, graph.const([[0.0]])))
    if kind == "multinomial":
        raw = affine(graph, features.tensor, theta.T, pi)
    elif kind == "complement":
        plain = graph.add("MatMul", features.tensor, graph.const(theta.T))
        raw = graph.add("LogSoftmax", plain, axis=1)
    elif kind == "bernoulli":
        zero, one = (graph.add("Equal", features.tensor, graph.const([[value]])) for value in (0.0, 1.0))
        _demand(graph, stage, graph.add("Or", zero, one))
        negative = np.log1p(-np.exp(theta))
        raw = affine(graph, features.tensor, (theta - negative).T, pi + negative.sum(axis=1))
    elif kind == "gaussian":
        raw = _gaussian(graph, features.tensor, pi, theta, fitted.sigma.toArray())
    else:
        raise CannotConvert(f"modelType {kind!r} is not known")
    probability = Value(graph.add("Softmax", raw, axis=1), len(pi))
    return Predicted(label(graph, fitted, raw, probability), probability, features)


def _demand(graph: Graph, stage: Stage, fits: str) -> None:
    """Rows fail unless all of their features fit (boolean, (n, features)): Spark demands it of every row."""
    least = graph.add("ReduceMin", graph.add("Cast", fits, to=TensorProto.DOUBLE), graph.const([1], np.int64), keepdims=1)
    graph.fail(graph.add("Less", least, graph.const([[1.0]])), f"{stage.flow()}: refuses the value of {stage.params['featuresCol']}")


def _gaussian(graph: Graph, features: str, pi: Any, theta: Any, sigma: Any) -> str:
    """pi - (sum of (x - theta)^2 / sigma + sum of log sigma) / 2, a class at a time: (x - theta) keeps its digits."""
    axis = graph.const([1], np.int64)
    columns = []
    for prior, mean, variance in zip(pi, theta, sigma, strict=True):
        away = graph.add("Sub", features, graph.const(mean[None, :]))
        squared = graph.add("Div", graph.add("Mul", away, away), graph.const(variance[None, :]))
        total = graph.add("Add", graph.add("ReduceSum", squared, axis, keepdims=1), graph.const([[float(np.log(variance).sum())]]))
        columns.append(graph.add("Sub", graph.const([[float(prior)]]), graph.add("Mul", total, graph.const([[0.5]]))))
    return graph.add("Concat", *columns, axis=1)


def perceptron(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """Layers of sigmoids, and a softmax over the last."""
    layers = [int(size) for size in fitted.getLayers()]
    features = features_of(graph, stage, layers[0])
    weights = fitted.weights.toArray()
    tensor, at = features.tensor, 0
    for i, (wide, high) in enumerate(pairwise(layers)):
        matrix = weights[at : at + wide * high].reshape(wide, high)  # Spark keeps (high, wide) column by column
        at += wide * high
        tensor = affine(graph, tensor, matrix, weights[at : at + high])
        at += high
        if i < len(layers) - 2:
            tensor = graph.add("Sigmoid", tensor)
    probability = Value(graph.add("Softmax", tensor, axis=1), layers[-1])
    return Predicted(label(graph, fitted, tensor, probability), probability, features)


def kmeans(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """The nearest center, the first of several."""
    if fitted.getDistanceMeasure() != "euclidean":
        raise CannotConvert(f"distanceMeasure {fitted.getDistanceMeasure()!r}; only euclidean has a portable form")
    centers = np.array(fitted.clusterCenters())
    features = features_of(graph, stage, centers.shape[1])
    _demand(graph, stage, graph.add("Not", graph.add("IsNaN", features.tensor)))
    axis, columns = graph.const([1], np.int64), []
    for center in centers:
        away = graph.add("Sub", features.tensor, graph.const(center[None, :]))
        columns.append(graph.add("ReduceSum", graph.add("Mul", away, away), axis, keepdims=1))
    distances = columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=1)
    return Predicted(argmax(graph, graph.add("Neg", distances)), None, features)


OTHERS: Final[Mapping[str, Predict]] = {
    "NaiveBayesModel": naive_bayes,
    "MultilayerPerceptronClassificationModel": perceptron,
    "KMeansModel": kmeans,
}
