"""Spark ML's linear models as ONNX nodes, and what each coefficient says about which input column."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from streaming.convert.converted import Linear
from streaming.convert.spark.graph import CannotConvert, Graph, Value
from streaming.models.spark.fold.linear import family_and_link
from streaming.models.spark.metadata import Stage


@dataclass(frozen=True)
class Predicted:
    """What a predicting stage gives: tensors of shape (n, 1) and (n, classes)."""

    prediction: str
    probability: Value | None
    features: Value
    linear: Linear | None = None


Predict = Callable[[Graph, Stage, Any], Predicted]


def features_of(graph: Graph, stage: Stage, width: int) -> Value:
    """The vector that the predictor reads."""
    return graph.vector(str(stage.params["featuresCol"]), width, stage.flow())


def argmax(graph: Graph, scores: str) -> str:
    """The place of the greatest element, the first of several; DOUBLE (n, 1)."""
    return graph.add("Cast", graph.add("ArgMax", scores, axis=1, keepdims=1), to=TensorProto.DOUBLE)


def label(graph: Graph, fitted: Any, raw: str, probability: Value) -> str:
    """The predicted class as Spark picks it: the greatest score, or with `thresholds` the greatest probability / threshold."""
    if not fitted.isDefined("thresholds"):
        return argmax(graph, raw)
    with np.errstate(divide="ignore"):
        scaled = graph.add("Div", probability.tensor, graph.const(np.array(fitted.getThresholds())[None, :]))
    nan = graph.add("IsNaN", scaled)
    return argmax(graph, graph.add("Where", nan, graph.const([[-np.inf]]), scaled))


def product(graph: Graph, features: str, coefficients: Any) -> str:
    """features @ coefficients.T, (n, rows). Where Spark keeps the coefficients sparse, an infinite feature meets no zero: so here."""
    dense = np.atleast_2d(coefficients.toArray())
    if "Sparse" not in type(coefficients).__name__:
        return graph.add("MatMul", features, graph.const(dense.T))
    columns = []
    for row in dense:
        used = np.flatnonzero(row)
        taken = graph.add("Gather", features, graph.const(used if len(used) else [0], np.int64), axis=1)
        columns.append(graph.add("MatMul", taken, graph.const(row[used if len(used) else [0]][:, None])))
    return columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=1)


def logistic_regression(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """Binary: P(1) = sigmoid(margin), class 1 above the threshold. Multinomial: softmax of the margins."""
    features = features_of(graph, stage, fitted.numFeatures)
    matrix = fitted.coefficientMatrix
    intercepts = fitted.interceptVector.toArray()
    margins = graph.add("Add", product(graph, features.tensor, matrix), graph.const(intercepts[None, :]))
    if matrix.numRows > 1:
        probability = Value(graph.add("Softmax", margins, axis=1), matrix.numRows)
        return Predicted(label(graph, fitted, margins, probability), probability, features)
    both = graph.add("Concat", graph.add("Neg", margins), margins, axis=1)
    probability = Value(graph.add("Sigmoid", both), 2)
    threshold = float(fitted.getThreshold())
    with np.errstate(divide="ignore"):
        least = float(np.log(threshold) - np.log1p(-threshold))
    prediction = above(graph, margins, least)
    linear = Linear("logit", float(intercepts[0]), tuple(map(float, matrix.toArray()[0])), features.sources)
    return Predicted(prediction, probability, features, linear)


def above(graph: Graph, margin: str, least: float) -> str:
    """1.0 where the margin is above `least`, else 0.0."""
    return graph.add("Cast", graph.add("Greater", margin, graph.const([[least]])), to=TensorProto.DOUBLE)


def linear_svc(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """Class 1 where the margin is above the threshold; no probability."""
    features = features_of(graph, stage, fitted.numFeatures)
    margin = graph.add("Add", product(graph, features.tensor, fitted.coefficients), graph.const([[float(fitted.intercept)]]))
    return Predicted(above(graph, margin, float(fitted.getThreshold())), None, features)


def linear_regression(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """intercept + coefficients . features."""
    features = features_of(graph, stage, fitted.numFeatures)
    eta = graph.add("Add", product(graph, features.tensor, fitted.coefficients), graph.const([[float(fitted.intercept)]]))
    return Predicted(eta, None, features, _linear("identity", fitted, features))


def _linear(link: str, fitted: Any, features: Value) -> Linear:
    return Linear(link, float(fitted.intercept), tuple(map(float, fitted.coefficients.toArray())), features.sources)


#: Below this a mean is no mean of these families; Spark lifts it.
_EPSILON: Final = 1e-16
_GREATEST: Final = float(np.finfo(np.float64).max)


def generalized_linear_regression(graph: Graph, stage: Stage, fitted: Any) -> Predicted:
    """The inverse of the link at intercept + coefficients . features (+ offset), brought into the range of the family."""
    features = features_of(graph, stage, fitted.numFeatures)
    family, link, power = family_and_link(fitted)
    eta = graph.add("Add", product(graph, features.tensor, fitted.coefficients), graph.const([[float(fitted.intercept)]]))
    offset = stage.params.get("offsetCol")
    if offset:
        column = graph.number(str(offset))
        if column.null is not None:
            graph.fail(column.null, f"{stage.flow()}: {offset} is null")
        eta = graph.add("Add", eta, column.tensor)
    mean = _LINKS[link](graph, eta, power) if link in _LINKS else None
    if mean is None:
        raise CannotConvert(f"the link {link!r} needs a function that ONNX runtimes do not have in double precision")
    return Predicted(_into_range(graph, family, mean), None, features, None if offset else _linear(link, fitted, features))


def _one_minus_exp(graph: Graph, eta: str) -> str:
    return graph.add("Sub", graph.const([[1.0]]), graph.add("Exp", graph.add("Neg", graph.add("Exp", eta))))


_LINKS: Final[Mapping[str, Callable[[Graph, str, float], str]]] = {
    "identity": lambda graph, eta, power: eta,
    "log": lambda graph, eta, power: graph.add("Exp", eta),
    "logit": lambda graph, eta, power: graph.add("Sigmoid", eta),
    "inverse": lambda graph, eta, power: graph.add("Div", graph.const([[1.0]]), eta),
    "sqrt": lambda graph, eta, power: graph.add("Mul", eta, eta),
    "cloglog": lambda graph, eta, power: _one_minus_exp(graph, eta),
    "power": lambda graph, eta, power: graph.add("Pow", eta, graph.const([[1.0 / power]])),
}


def _into_range(graph: Graph, family: str, mean: str) -> str:
    if family == "gaussian":
        low, high = -_GREATEST, _GREATEST
    elif family == "binomial":
        low, high = _EPSILON, 1.0 - _EPSILON
    else:
        low, high = _EPSILON, _GREATEST
    # Where, not Max and Min: NaN must stay NaN.
    least, most = graph.const([[low]]), graph.const([[high]])
    lifted = graph.add("Where", graph.add("Less", mean, least), least, mean)
    return graph.add("Where", graph.add("Greater", lifted, most), most, lifted)


LINEAR: Final[Mapping[str, Predict]] = {
    "LogisticRegressionModel": logistic_regression,
    "LinearSVCModel": linear_svc,
    "LinearRegressionModel": linear_regression,
    "GeneralizedLinearRegressionModel": generalized_linear_regression,
}
