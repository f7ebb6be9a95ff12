"""Inputs so wide that an expression for each element would cost more to plan than to compute.

A thousand numbers become one array, which Spark ML's own methods take as a whole: they are planned as one expression each. What
is odd about a row is looked for in that array with one pass that is compiled, and named only where there is something.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
from pyspark import SparkContext
from pyspark.ml.common import _py2java
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors

from streaming.models.spark.fold import text
from streaming.models.spark.fold.made import called
from streaming.models.spark.fold.state import Fold
from streaming.models.spark.fold.values import Block, Number, Packed
from streaming.models.spark.metadata import Stage

#: So many numbers beside each other are worth an array.
WIDE: Final = 64
_BETWEEN: Final = "\x1f"


def pack(fold: Fold, blocks: Sequence[Block]) -> list[Block]:
    """The same elements, long runs of plain numbers packed."""
    packed, run = list[Block](), list[Number]()
    for block in blocks:
        if isinstance(block, Number) and not block.nominal:
            run.append(block)
            continue
        packed += [*_packed(fold, run), block]
        run = []
    return packed + _packed(fold, run)


def _packed(fold: Fold, run: Sequence[Number]) -> list[Block]:
    if len(run) <= WIDE:
        return list(run)
    # What Spark ML assembles has no negative zero.
    name = fold.let(text.array([f"({number.sql} + 0D)" for number in run]))
    return [Packed(name, len(run), nan=any(number.nan for number in run))]


def demand_known(fold: Fold, stage: Stage, names: Collection[str]) -> None:
    """Rows on which one of these columns of the event is null or NaN fail, and say which is the first of them, by name."""
    ordered = sorted(names)
    values = fold.let(text.array([fold.number(name).sql for name in ordered]))
    nan = text.number(np.nan)
    # Null where the array holds a null, true where it holds NaN.
    odd = f"coalesce(array_contains({values}, {nan}), true)"
    first = fold.let(f"IF({odd}, array_position(transform({values}, x -> x IS NULL OR isnan(x)), true), NULL)")
    listed = f"split({text.string(_BETWEEN.join(ordered))}, {text.string(_BETWEEN)})"
    name, value = f"get({listed}, CAST({first} AS INT) - 1)", f"get({values}, CAST({first} AS INT) - 1)"
    said = f"concat({text.string(f'{stage.flow()}: ')}, {name}, IF({value} IS NULL, ' is null', ' is NaN'))"
    fold.fail_saying(f"{first} > 0", said)


def can_demand(names: Collection[str]) -> bool:
    """True for so many columns that they are better looked at together, by names that can be told apart."""
    return len(names) > WIDE and not any(_BETWEEN in name for name in names)


def dot(fold: Fold, block: Packed, weights: Any, *, sparse: bool) -> str:
    """block . weights, by the method that Spark ML's own linear models use."""
    values = np.asarray(weights, dtype=np.float64)
    places = np.flatnonzero(values)
    vector = Vectors.sparse(len(values), places, values[places]) if sparse else Vectors.dense(values)
    return fold.let(called(_java(vector), "dot", block.name, gives="double"))


def scale(fold: Fold, block: Packed, shift: Any, factors: Any, stage: Stage) -> Packed:
    """(block - shift) * factors, by the function of Spark ML's own scalers; either may be None."""
    nothing = np.zeros(0)
    jvm: Any = SparkContext._active_spark_context._jvm  # type: ignore[union-attr]
    scaler = getattr(getattr(jvm.org.apache.spark.ml.feature, "StandardScalerModel$"), "MODULE$")
    both = [nothing if values is None else np.asarray(values, dtype=np.float64) for values in (shift, factors)]
    function = scaler.getTransformFunc(*(_java(Vectors.dense(values)).toArray() for values in both), shift is not None, factors is not None)
    return Packed(fold.attempt(called(function, "apply", block.name, gives="vector"), stage), block.size, block.nan)


def _java(vector: DenseVector | SparseVector) -> Any:
    return _py2java(SparkContext._active_spark_context, vector)  # type: ignore[arg-type]
