"""Spark ML's linear models as expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streaming.models.spark.fold import text, wide
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.fold.values import Vector
from streaming.models.spark.metadata import Stage


@dataclass(frozen=True)
class FoldedAnswer:
    """What a predicting stage says: SQL of a DOUBLE, of each class's probability, and of the vector that it read as an array."""

    prediction: str
    probability: Sequence[str]
    features: str
    #: The name of the probabilities as one array, where there is one.
    array: str = ""


Predict = Callable[[Fold, Stage, Any], FoldedAnswer]


def features_of(fold: Fold, stage: Stage, width: int) -> Vector:
    """The vector that the predictor reads."""
    return fold.vector(str(stage.params["featuresCol"]), width, stage)


def product(fold: Fold, features: Vector, coefficients: Any, intercepts: Any) -> list[str]:
    """features . row + intercept for each row of the coefficients, named. What Spark keeps sparse skips its zeros."""
    sparse = "Sparse" in type(coefficients).__name__
    rows = np.atleast_2d(coefficients.toArray())
    features = features if len(rows) == 1 else fold.named(features)

    def terms(row: Any) -> list[str]:
        return features.dot(
            row, skip_zeros=sparse, packed=lambda block, at: wide.dot(fold, block, row[at : at + len(block)], sparse=sparse)
        )

    return [fold.total(terms(row), float(plus)) for row, plus in zip(rows, np.atleast_1d(intercepts), strict=True)]


def above(margin: str, least: float) -> str:
    """1.0 where the margin is above `least`; NaN, the greatest number for SQL, is not."""
    return f"IF({margin} > {text.number(least)} AND NOT isnan({margin}), 1D, 0D)"


def sigmoid(x: str) -> str:
    """1 / (1 + exp(-x))."""
    return f"(1D / (1D + exp(-{x})))"


def label(fold: Fold, fitted: Any, raw: Sequence[str], probability: Sequence[str]) -> str:
    """The predicted class as Spark picks it: the greatest score, or with `thresholds` the greatest probability / threshold."""
    if not fitted.isDefined("thresholds"):
        return text.greatest(raw)
    scaled = [
        # 0 / 0 is NaN in Java, which is greater than nothing: a class without any probability is not chosen.
        f"IF({p} = 0D, {text.number(-np.inf)}, {text.number(np.inf)})" if threshold == 0.0 else f"({p} / {text.number(float(threshold))})"
        for p, threshold in zip(probability, fitted.getThresholds(), strict=True)
    ]
    return text.greatest([fold.let(each) for each in scaled])


def softmax(fold: Fold, raw: Sequence[str]) -> list[str]:
    """exp(r - max) / sum. An infinite score makes NaN of it, as it does in Spark ML, and the row fails."""
    most = fold.let(f"greatest({', '.join(raw)})")
    powers = [fold.let(f"exp({r} - {most})") for r in raw]
    scale = fold.let(f"(1D / {text.total(powers)})")
    return [fold.let(f"({p} * {scale})") for p in powers]


def demand_raw(stage: Stage) -> None:
    """Without the column of scores Spark takes another way to the label, whose ties fall otherwise."""
    if not stage.params.get("rawPredictionCol"):
        raise CannotFold("it has no rawPredictionCol")


def logistic_regression(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """Binary: P(1) = sigmoid(margin), class 1 above the threshold. Multinomial: softmax of the margins."""
    demand_raw(stage)
    features = features_of(fold, stage, fitted.numFeatures)
    margins = product(fold, features, fitted.coefficientMatrix, fitted.interceptVector.toArray())
    if len(margins) > 1:
        probability = softmax(fold, margins)
        return FoldedAnswer(label(fold, fitted, margins, probability), probability, features.array())
    (margin,) = margins
    zero = fold.let(sigmoid(f"(-{margin})"))
    threshold = float(fitted.getThreshold())
    with np.errstate(divide="ignore"):
        least = float(np.log(threshold / (1.0 - threshold))) if threshold < 1.0 else np.inf
    return FoldedAnswer(above(margin, least), [zero, f"(1D - {zero})"], features.array())


def linear_svc(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """Class 1 where the margin is above the threshold; no probability."""
    demand_raw(stage)
    features = features_of(fold, stage, fitted.numFeatures)
    (margin,) = product(fold, features, fitted.coefficients, fitted.intercept)
    return FoldedAnswer(above(margin, float(fitted.getThreshold())), (), features.array())


def linear_regression(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """intercept + coefficients . features."""
    features = features_of(fold, stage, fitted.numFeatures)
    (eta,) = product(fold, features, fitted.coefficients, fitted.intercept)
    return FoldedAnswer(eta, (), features.array())


#: Below this a mean is no mean of these families; Spark lifts it.
_EPSILON: Final = 1e-16
_GREATEST: Final = float(np.finfo(np.float64).max)


def generalized_linear_regression(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """The inverse of the link at intercept + coefficients . features (+ offset), brought into the range of the family."""
    features = features_of(fold, stage, fitted.numFeatures)
    family, link, power = family_and_link(fitted)
    if link not in _LINKS:
        raise CannotFold(f"its link is {link}")
    (eta,) = product(fold, features, fitted.coefficients, fitted.intercept)
    offset = stage.params.get("offsetCol")
    if offset:
        column = fold.number(str(offset))
        if column.nullable:
            fold.fail(f"{column.sql} IS NULL", f"{stage.flow()}: {offset} is null")
        eta = fold.let(f"({eta} + {column.sql})")
    mean = fold.let(_LINKS[link](eta, power))
    return FoldedAnswer(_into_range(family, mean), (), features.array())


def family_and_link(fitted: Any) -> tuple[str, str, float]:
    """Family, link and the power of the link, as Spark's FamilyAndLink makes them of the parameters."""
    family = str(fitted.getFamily()).lower()
    if family != "tweedie":
        default = {"gaussian": "identity", "binomial": "logit", "poisson": "log", "gamma": "inverse"}[family]
        return family, str(fitted.getLink()).lower() if fitted.isDefined("link") else default, 1.0
    variance = float(fitted.getVariancePower())
    known = {0.0: "gaussian", 1.0: "poisson", 2.0: "gamma"}
    power = float(fitted.getLinkPower()) if fitted.isDefined("linkPower") else 1.0 - variance
    names = {0.0: "log", 1.0: "identity", -1.0: "inverse", 0.5: "sqrt"}
    return known.get(variance, family), names.get(power, "power"), power


def _over_one(eta: str) -> str:
    # Division by zero is an error in ANSI SQL; in Java it is infinity, with the sign of the zero.
    zero = f"IF(CAST({eta} AS STRING) = '-0.0', {text.number(-np.inf)}, {text.number(np.inf)})"
    return f"IF({eta} = 0D, {zero}, 1D / {eta})"


_LINKS: Final[Mapping[str, Callable[[str, float], str]]] = {
    "identity": lambda eta, power: eta,
    "log": lambda eta, power: f"exp({eta})",
    "logit": lambda eta, power: sigmoid(eta),
    "inverse": lambda eta, power: _over_one(eta),
    "sqrt": lambda eta, power: f"({eta} * {eta})",
    "cloglog": lambda eta, power: f"(1D - exp(-exp({eta})))",
    "power": lambda eta, power: f"pow({eta}, {text.number(1.0 / power)})",
}


def _into_range(family: str, mean: str) -> str:
    if family == "gaussian":
        low, high = -_GREATEST, _GREATEST
    elif family == "binomial":
        low, high = _EPSILON, 1.0 - _EPSILON
    else:
        low, high = _EPSILON, _GREATEST
    least, most = text.number(low), text.number(high)
    return f"CASE WHEN isnan({mean}) THEN {mean} WHEN {mean} < {least} THEN {least} WHEN {mean} > {most} THEN {most} ELSE {mean} END"


LINEAR: Final[Mapping[str, Predict]] = {
    "LogisticRegressionModel": logistic_regression,
    "LinearSVCModel": linear_svc,
    "LinearRegressionModel": linear_regression,
    "GeneralizedLinearRegressionModel": generalized_linear_regression,
}
