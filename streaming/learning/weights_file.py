"""The weights file: how learned models reach the score lane, one JSON line that is replaced whole.

Spark lists the file once, when the score query is planned, and reads it again at every batch. So the line has a fixed
length in bytes, padded with blanks: new content is in force at the next batch with no new plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.errors import TransientError
from streaming.online.weights import LARGEST_EXPONENT, Weights
from streaming.runtime.files import Folder

FILE: Final = "weights.json"

#: Room for about 2,500 numbers at 26 bytes; more weights get the next power of two.
_LEAST: Final = 65_536

LEARNERS: Final = "MAP<STRING, STRUCT<version: STRING, kind: STRING, coefficients: ARRAY<ARRAY<DOUBLE>>, intercept: ARRAY<DOUBLE>>>"
SCHEMA: Final = f"topic STRING, learners {LEARNERS}"


def line(topic: str, weights: Mapping[str, tuple[str, Weights]], *, size: int | None = None) -> bytes:
    """The file's content: learner -> (version, weights). `size`: the length it must have; None: the least that fits.

    TransientError when it does not fit: a restart plans the query anew, with a longer file.
    """
    tree = {"topic": topic, "learners": {name: {"version": version, **_plain(w)} for name, (version, w) in weights.items()}}
    text = json.dumps(tree, allow_nan=False).encode()
    if size is None:
        size = max(_LEAST, 1 << len(text).bit_length())
    if len(text) >= size:
        raise TransientError(f"{FILE}: {len(text)} bytes of weights, room for {size - 1}; restart the job: it then makes room")
    return text.ljust(size - 1) + b"\n"


def publish(folder: Folder, topic: str, weights: Mapping[str, tuple[str, Weights]], *, restart: bool = False) -> None:
    """Replace the file; the length stays as it is, unless the job is just starting (`restart`) and no query reads it."""
    now = folder.read(FILE)
    content = line(topic, weights, size=len(now) if now is not None and not restart else None)
    if content != now:
        folder.replace(FILE, content)


def has_room(folder: Folder, topic: str, weights: Mapping[str, tuple[str, Weights]]) -> bool:
    """Whether there is a file, and these weights fit into it."""
    now = folder.read(FILE)
    return now is not None and len(line(topic, weights)) <= len(now)


def read(folder: Folder) -> dict[str, tuple[str, Weights]]:
    """The published weights: learner -> (version, weights). Empty when there is no file."""
    content = folder.read(FILE)
    tree = json.loads(content)["learners"] if content else {}
    return {name: (entry["version"], _weights(entry)) for name, entry in tree.items()}


def _plain(weights: Weights) -> dict[str, Any]:
    """Every kind in one shape: coefficients (k, d) and intercept (k,), k = 1 for a single output."""
    tree = weights.to_json()
    if weights.coefficients.ndim == 1:
        tree["coefficients"] = [tree["coefficients"]]
        tree["intercept"] = [tree["intercept"]]
    return tree


def _weights(entry: Mapping[str, Any]) -> Weights:
    single = entry["kind"] not in ("softmax", "nearest")
    tree = dict(entry) | ({"coefficients": entry["coefficients"][0], "intercept": entry["intercept"][0]} if single else {})
    return Weights.from_json(tree)


def frame(spark: SparkSession, uri: str) -> DataFrame:
    """The file as the static side of a join on `topic`."""
    return spark.read.schema(SCHEMA).json(uri).select(F.col("topic").alias("_topic"), F.col("learners").alias("_learners"))


def score(events: DataFrame, learners: Sequence[str]) -> DataFrame:
    """Add a column for each learner, named by :func:`column`: STRUCT<version, prediction, probability>.

    `events` has the column `features` and those of :func:`frame`. All three fields are null while a learner has no
    version yet. The formulas are those of :class:`streaming.online.weights.Weights`, as Spark expressions.
    """
    # Three projections, so that margins and probabilities are computed once a row: Spark does not merge projections
    # when that would evaluate something costly twice.
    with_weights = events.withColumns({_weights_of(name): F.col("_learners").getItem(name) for name in learners})
    with_values = with_weights.withColumns({_values_of(name): _values(F.col(_weights_of(name)), F.col("features")) for name in learners})
    answers = {column(name): _answer(F.col(_weights_of(name)), F.col(_values_of(name))) for name in learners}
    spare = [f(name) for name in learners for f in (_weights_of, _values_of)]
    return with_values.withColumns(answers).drop(*spare)


def column(learner: str) -> str:
    """The name of the column that :func:`score` adds for a learner."""
    return _column("_answer_", learner)


def _weights_of(learner: str) -> str:
    return _column("_weights_", learner)


def _values_of(learner: str) -> str:
    return _column("_values_", learner)


def _column(prefix: str, learner: str) -> str:
    # A dot in a column's name would ask for a field of a struct; "$" is in no learner's name.
    return prefix + learner.replace(".", "$")


def _values(w: Column, features: Column) -> Column:
    """The margins (k,), or for `nearest` the squared distances (k,); null without weights of the features' width."""
    zero = F.lit(0.0)

    def dot(row: Column) -> Column:
        return F.aggregate(F.zip_with(row, features, lambda a, b: a * b), zero, lambda total, x: total + x)

    def distance(centre: Column) -> Column:
        return F.aggregate(F.zip_with(centre, features, lambda a, b: (a - b) * (a - b)), zero, lambda total, x: total + x)

    margins = F.zip_with(F.transform(w["coefficients"], dot), w["intercept"], lambda m, b: m + b)
    # Same width, or no answer: zip_with would pad the shorter side with nulls.
    fits = F.size(features) == F.size(w["coefficients"][0])
    return F.when(fits, F.when(w["kind"] == "nearest", F.transform(w["coefficients"], distance)).otherwise(margins))


def _answer(w: Column, values: Column) -> Column:
    kind, m = w["kind"], values[0]
    limited = F.greatest(F.least(m, F.lit(LARGEST_EXPONENT)), F.lit(-LARGEST_EXPONENT))
    p = F.lit(1.0) / (F.lit(1.0) + F.exp(-m))
    top, least = F.array_max(values), F.array_min(values)
    exps = F.transform(values, lambda x: F.exp(x - top))
    total = F.aggregate(exps, F.lit(0.0), lambda a, b: a + b)
    prediction = (
        F.when(kind == "linear", m)
        .when(kind == "logistic", F.when(p > 0.5, 1.0).otherwise(0.0))
        .when(kind == "poisson", F.exp(limited))
        .when(kind == "softmax", (F.array_position(values, top) - 1).cast("double"))
        .when(kind == "nearest", (F.array_position(values, least) - 1).cast("double"))
    )
    probability = F.when(kind == "logistic", F.array(F.lit(1.0) - p, p)).when(kind == "softmax", F.transform(exps, lambda x: x / total))
    # A NaN among the features: for Spark it is greater than every number, and the answer would look sure.
    known = values.isNotNull() & ~F.isnan(m)
    return F.struct(
        F.when(known, w["version"]).alias("version"),
        F.when(known, prediction).alias("prediction"),
        F.when(known, probability).alias("probability"),
    )
