"""How good a model is on rows it has not seen, and beside it how good a guess without any model would be."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from pyspark.ml.evaluation import ClusteringEvaluator, MulticlassClassificationEvaluator, RegressionEvaluator
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from streaming.monitor.quality import area

#: Spark's own floor for a probability under the logarithm.
_LEAST = 1e-15


def of_classes(scored: DataFrame, priors: Mapping[int, float]) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, baseline) of a classifier on `scored`, which has `_label` and the model's columns.

    Two classes: area_under_roc, area_under_pr, accuracy, log_loss. More: accuracy, f1 (weighted), log_loss.
    The baseline knows only `priors`, class -> its share of the training rows: it always says the greatest, with these
    probabilities. The two areas are left out when the test rows have one class only, for which they mean nothing.
    """
    shares = _shares(scored)
    binary = len(priors) == 2
    metrics: dict[str, float] = {}
    baseline: dict[str, float] = {}
    if binary and len(shares) == 2:
        metrics["area_under_roc"], metrics["area_under_pr"] = areas(scored)
        baseline |= {"area_under_roc": 0.5, "area_under_pr": shares.get(1, 0.0)}
    classes = MulticlassClassificationEvaluator(labelCol="_label", eps=_LEAST)
    metrics["accuracy"] = classes.setMetricName("accuracy").evaluate(scored)
    if not binary:
        metrics["f1"] = classes.setMetricName("f1").evaluate(scored)
    metrics["log_loss"] = classes.setMetricName("logLoss").evaluate(scored)  # type: ignore[arg-type]  # Spark's list of names lacks it
    most = min(priors, key=lambda k: (-priors[k], k))
    hit = shares.get(most, 0.0)
    baseline["accuracy"] = hit
    if not binary:
        baseline["f1"] = hit * 2 * hit / (1 + hit)
    baseline["log_loss"] = -sum(share * math.log(max(priors.get(k, 0.0), _LEAST)) for k, share in shares.items())
    return _finite(metrics), baseline


def areas(scored: DataFrame) -> tuple[float, float]:
    """The areas under the ROC and the precision-recall curve of `rawPrediction` against `_label`, which has both classes.

    What Spark's BinaryClassificationEvaluator gives over all distinct scores, but added up here, in the order of the scores:
    Spark adds partition by partition, as tasks end, so that its last digits depend on luck wherever `spark.default.parallelism` is set.
    The driver holds 24 bytes for each distinct score.
    """
    by_score = scored.groupBy(vector_to_array(F.col("rawPrediction"))[1].alias("score"))
    counted = by_score.agg(F.count_if(F.col("_label") == 1).alias("positive"), F.count(F.lit(1)).alias("all")).toArrow().sort_by("score")
    positive, rows = (counted[name].to_numpy().astype(np.float64) for name in ("positive", "all"))
    hits = positive[::-1].cumsum()
    precision, recall = hits / rows[::-1].cumsum(), hits / hits[-1]
    before = np.concatenate([precision[:1], precision[:-1]])
    under_pr = (np.diff(recall, prepend=0.0) * (precision + before) / 2.0).sum()
    return area(positive, rows - positive), float(under_pr)


def of_numbers(scored: DataFrame, mean: float) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, baseline) of a regression: rmse, mae, r2. The baseline always says `mean`, the mean of the training rows."""
    guess = scored.select(F.col("_label"), F.lit(mean).alias("prediction"))
    return _regression(scored), _regression(guess)


def _regression(scored: DataFrame) -> dict[str, float]:
    evaluator = RegressionEvaluator(labelCol="_label")
    return _finite(
        {
            "rmse": evaluator.setMetricName("rmse").evaluate(scored),
            "mae": evaluator.setMetricName("mae").evaluate(scored),
            "r2": evaluator.setMetricName("r2").evaluate(scored),
        }
    )


def of_clusters(scored: DataFrame) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, baseline) of a clustering: silhouette, -1 to 1; left out when all test rows fall into one cluster. No baseline."""
    if scored.select("prediction").distinct().count() < 2:
        return {}, {}
    return _finite({"silhouette": ClusteringEvaluator().evaluate(scored)}), {}


def _shares(scored: DataFrame) -> dict[int, float]:
    counts = {int(row["_label"]): int(row["count"]) for row in scored.groupBy("_label").count().collect()}
    total = sum(counts.values())
    return {k: counts[k] / total for k in sorted(counts)}


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
