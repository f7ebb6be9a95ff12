"""The ten algorithms: what each predicts, its Spark ML class, and its parameters checked before Spark sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pyspark.errors import IllegalArgumentException
from pyspark.ml import Estimator, classification, clustering, regression

from streaming.errors import ConfigError
from streaming.models.spark.metadata import Task

Stage = TypeVar("Stage")


@dataclass(frozen=True)
class Algorithm:
    """One algorithm of Spark ML."""

    kind: Task
    create: Callable[[], Estimator[Any]]
    #: Whether numbers are brought to mean 0 and deviation 1 first: where the size of a number decides how much it counts.
    scale: bool
    #: Two classes only.
    binary: bool = False
    #: Parameters whose default here is not Spark's.
    defaults: Mapping[str, Any] = field(default_factory=dict)


ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "logistic_regression": Algorithm("classification", classification.LogisticRegression, scale=True),
    "random_forest_classifier": Algorithm("classification", classification.RandomForestClassifier, scale=False),
    "gbt_classifier": Algorithm("classification", classification.GBTClassifier, scale=False, binary=True),
    # Gaussian: Spark's default, multinomial, refuses negative numbers, and one such event would be unanswered for ever.
    "naive_bayes": Algorithm("classification", classification.NaiveBayes, scale=False, defaults={"modelType": "gaussian"}),
    "mlp_classifier": Algorithm("classification", classification.MultilayerPerceptronClassifier, scale=True),
    "linear_regression": Algorithm("regression", regression.LinearRegression, scale=True),
    "random_forest_regressor": Algorithm("regression", regression.RandomForestRegressor, scale=False),
    "gbt_regressor": Algorithm("regression", regression.GBTRegressor, scale=False),
    "generalized_linear_regression": Algorithm("regression", regression.GeneralizedLinearRegression, scale=True),
    "kmeans": Algorithm("clustering", clustering.KMeans, scale=True),
}

#: Parameters that the pipeline sets itself, or that name columns the table does not keep.
_OURS: Final = frozenset({"checkpointInterval", "initialWeights", "lowerBoundsOnCoefficients", "upperBoundsOnCoefficients"}) | {
    "lowerBoundsOnIntercepts", "upperBoundsOnIntercepts", "validationIndicatorCol",
}  # fmt: skip


def build(name: str, params: Mapping[str, Any], *, seed: int, source: str) -> Estimator[Any]:
    """The estimator with its parameters, reading `features` and `_label`. ConfigError lists the valid names, or the value expected."""
    algorithm = ALGORITHMS[name]
    estimator = algorithm.create()
    valid = sorted(p.name for p in estimator.params if not p.name.endswith("Col") and p.name not in _OURS)
    for key in params:
        if key not in valid:
            raise ConfigError(f"{source}: train.params.{key}: {name} has no such parameter; valid: {', '.join(valid)}")
    wanted = {"seed": seed} if "seed" in valid else {}
    for key, value in (wanted | dict(algorithm.defaults) | dict(params)).items():
        _set(estimator, key, value, source=source)
    if algorithm.kind != "clustering":
        estimator._set(labelCol="_label")
    return named(estimator, name)


def _set(estimator: Estimator[Any], key: str, value: Any, *, source: str) -> None:
    says = estimator.getParam(key).doc
    try:
        estimator._set(**{key: value})
        # Spark checks the range only where its own copy of the parameter is made.
        both: Any = estimator
        both._transfer_params_to_java()
    except (TypeError, ValueError) as wrong:
        raise ConfigError(f"{source}: train.params.{key}: got {value!r} ({type(value).__name__}); expected: {says}") from wrong
    except IllegalArgumentException as wrong:
        raise ConfigError(f"{source}: train.params.{key}: got {value!r}; expected: {says}") from wrong


def named(stage: Stage, uid: str) -> Stage:
    """The stage under a uid of our choice on both sides of the bridge, so that two trainings save the same names."""
    both: Any = stage
    both._resetUid(uid)
    if getattr(both, "_java_obj", None) is not None:
        both._java_obj = both._new_java_obj(both._java_obj.getClass().getName(), uid)
    return stage
