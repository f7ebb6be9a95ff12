"""Spark ML's trees, networks, mixtures and the like: their own methods called on the folded features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streaming.models.spark.fold.linear import FoldedAnswer, Predict, demand_raw
from streaming.models.spark.fold.made import called
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.metadata import Stage


def classifier(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """Raw scores, their probabilities and the label, each by the model's own method."""
    demand_raw(stage)
    java, features = fitted._java_obj, features_of(fold, stage, int(fitted.numFeatures))
    raw = fold.attempt(called(java, "predictRaw", features, gives="vector"), stage)
    probability = fold.let(called(java, "raw2probability", raw, gives="vector"))
    label = fold.let(called(java, "raw2prediction", raw, gives="double"))
    return FoldedAnswer(label, [f"get({probability}, {i})" for i in range(int(fitted.numClasses))], features, probability)


def regression(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """The model's own answer."""
    features = features_of(fold, stage, int(fitted.numFeatures))
    return FoldedAnswer(fold.attempt(called(fitted._java_obj, "predict", features, gives="double"), stage), (), features)


def clustering(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """The nearest centre."""
    if stage.params.get("distanceMeasure") == "cosine":
        raise CannotFold("its distance is cosine, which is not defined for every row")
    features = features_of(fold, stage, int(fitted._java_obj.numFeatures()))
    nearest = fold.attempt(called(fitted._java_obj, "predict", features, gives="int"), stage)
    return FoldedAnswer(f"CAST({nearest} AS DOUBLE)", (), features)


def mixture(fold: Fold, stage: Stage, fitted: Any) -> FoldedAnswer:
    """The probability of each component, and the most probable."""
    java = fitted._java_obj
    features = features_of(fold, stage, int(java.numFeatures()))
    probability = fold.attempt(called(java, "predictProbability", features, gives="vector"), stage)
    nearest = fold.attempt(called(java, "predict", features, gives="int"), stage)
    shares = [f"get({probability}, {i})" for i in range(len(fitted.weights))]
    return FoldedAnswer(f"CAST({nearest} AS DOUBLE)", shares, features, probability)


def features_of(fold: Fold, stage: Stage, width: int) -> str:
    """The name of the features as one array."""
    return fold.let(fold.vector(str(stage.params["featuresCol"]), width, stage).array())


CALLED: Final[Mapping[str, Predict]] = {
    "DecisionTreeClassificationModel": classifier,
    "RandomForestClassificationModel": classifier,
    "GBTClassificationModel": classifier,
    "MultilayerPerceptronClassificationModel": classifier,
    "NaiveBayesModel": classifier,
    "FMClassificationModel": classifier,
    "DecisionTreeRegressionModel": regression,
    "RandomForestRegressionModel": regression,
    "GBTRegressionModel": regression,
    "FMRegressionModel": regression,
    "AFTSurvivalRegressionModel": regression,
    "KMeansModel": clustering,
    "BisectingKMeansModel": clustering,
    "GaussianMixtureModel": mixture,
}
