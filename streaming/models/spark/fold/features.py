"""Spark ML's feature stages as expressions, one function a stage: nulls, NaN, unseen values and failures as Spark ML has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from streaming.models.spark.fold import text, wide
from streaming.models.spark.fold.state import CannotFold, Fold
from streaming.models.spark.fold.values import Block, Choice, Number, Packed, Vector
from streaming.models.spark.metadata import Stage

#: Folds a fitted stage: reads values, writes values, says which rows fail.
Feature = Callable[[Fold, Stage, Any], None]


def string_indexer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Label -> its index. Null and unseen: the index after the last with "keep", a failure with "error"."""
    for source, target, labels in zip(stage.inputs, stage.outputs, fitted.labelsArray, strict=True):
        labels, event = list(labels), fold.is_input(source)
        if event and fold.type(source).startswith(("array", "struct", "map", "binary")):
            raise CannotFold(f"{source} is a {fold.type(source)}")
        plain = fold.plain(source) if event else fold.number(source).sql
        value = plain if event and fold.type(source) == "string" else f"CAST({plain} AS STRING)"
        index = fold.let(text.position(value, labels))
        if stage.params.get("handleInvalid") != "keep":
            fold.fail(
                f"{value} IS NULL", f"{stage.flow()}: {source} is null" if event else f"{stage.flow()}: refuses the value of {source}"
            )
            fold.fail(f"{index} = {len(labels)}", f"{stage.flow()}: refuses the value of {source}")
        nominal = len(labels) + int(stage.params.get("handleInvalid") == "keep")
        fold.write(target, Number(f"CAST({index} AS DOUBLE)", index=index, size=len(labels) + 1, nominal=nominal))


def one_hot(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Index -> a vector with a one. A null index is a null vector."""
    keep, drop_last = stage.params.get("handleInvalid") == "keep", bool(stage.params.get("dropLast", True))
    for source, target, size in zip(stage.inputs, stage.outputs, fitted.categorySizes, strict=True):
        column, size = fold.number(source), int(size)
        width = size + int(keep) - int(drop_last)
        index, places = column.index, column.size
        unknown = f"{index} >= {size}"
        if not index or places > size + 1:
            # NaN is the greatest number for SQL, so it is not among the known.
            known = f"{column.sql} >= 0D AND {column.sql} < {size}D"
            whole = f"CASE WHEN {known} THEN CAST({column.sql} AS INT) WHEN {column.sql} IS NOT NULL THEN {size} END"
            index, places = fold.let(whole), size + 1
            unknown = f"{index} = {size}"
        if not keep and (places > size or not column.index):
            fold.fail(unknown, f"{stage.flow()}: refuses the value of {source}")
        nulls = (f"{column.sql} IS NULL",) if column.nullable else ()
        fold.write(target, Vector((Choice(index, max(places, width), np.ones(width), np.zeros(width)),) if width else (), nulls))


def assembler(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Columns beside each other. "error": null, and NaN in a number, fail. "keep": null becomes NaN."""
    blocks = list[Block]()
    keep = stage.params.get("handleInvalid") == "keep"
    if not keep:
        _demand_all_known(fold, stage)
    for name in stage.inputs:
        value = fold.any(name)
        if keep:
            blocks += _with_nan(value)
        else:
            blocks += value.blocks if isinstance(value, Vector) else [Number(value.sql, nominal=value.nominal)]
    fold.write(stage.outputs[0], Vector(tuple(wide.pack(fold, blocks))))


def _demand_all_known(fold: Fold, stage: Stage) -> None:
    plain = {name for name in stage.inputs if fold.is_input(name) and isinstance(fold.any(name), Number)}
    together = plain if wide.can_demand(plain) else set[str]()
    if together:
        wide.demand_known(fold, stage, together)
    for name in sorted(set(stage.inputs) - together):
        _demand_known(fold, stage, name)


def _demand_known(fold: Fold, stage: Stage, name: str) -> None:
    value = fold.any(name)
    said = f"{stage.flow()}: refuses the value{'s' if len(stage.inputs) > 1 else ''} of {', '.join(sorted(stage.inputs))}"
    event = fold.is_input(name)
    if isinstance(value, Vector):
        for condition in value.nulls:
            fold.fail(condition, said)
        return
    if value.nullable:
        fold.fail(f"{value.sql} IS NULL", f"{stage.flow()}: {name} is null" if event else said)
    if value.nan:
        fold.fail(f"isnan({value.sql})", f"{stage.flow()}: {name} is NaN" if event else said)


def _with_nan(value: Number | Vector) -> list[Block]:
    nan = text.number(np.nan)
    if isinstance(value, Number):
        return [Number(f"coalesce({value.sql}, {nan})" if value.nullable else value.sql, nan=value.nullable or value.nan)]
    if not value.nulls:
        return list(value.blocks)
    null = " OR ".join(value.nulls)
    return [Number(f"IF({null}, {nan}, {element.sql})", nan=True) for element in value.elements()]


def imputer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Null, and `missingValue`, become the surrogate; in the column's own type, so that 2.7 becomes 2 in a column of integers."""
    surrogates = fitted.surrogateDF.first().asDict()
    missing = float(fitted.getMissingValue())
    for source, target in zip(stage.inputs, stage.outputs, strict=True):
        column, kind = fold.number(source), fold.type(source)
        surrogate = float(surrogates[source])
        gone = f"{column.sql} IS NULL OR {column.sql} = {text.number(missing)}"
        filled = f"IF({gone}, {text.number(surrogate)}, {column.sql})"
        if kind != "double":
            filled = f"CAST(CAST({filled} AS {kind}) AS DOUBLE)"
        stays = column.nan and not np.isnan(missing)
        fold.write(target, Number(filled, nan=stays or bool(np.isnan(surrogate))))


def bucketizer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """Number -> the number of its bucket. Outside the splits a row fails; null stays null."""
    all_splits = fitted.getSplitsArray() if stage.params.get("inputCols") else [fitted.getSplits()]
    keep = stage.params.get("handleInvalid") == "keep"
    for source, target, splits in zip(stage.inputs, stage.outputs, all_splits, strict=True):
        column = fold.number(source)
        x = fold.let(column.sql)
        bucket = f"CASE WHEN isnan({x}) THEN {len(splits) - 1}D WHEN {x} = {text.number(splits[-1])} THEN {len(splits) - 2}D"
        for place, split in enumerate(splits[1:-1]):
            bucket += f" WHEN {_below(x, float(split))} THEN {place}D"
        bucket = fold.let(f"{bucket} WHEN {x} IS NOT NULL THEN {len(splits) - 2}D END")
        refused = f"{stage.flow()}: refuses the value of {source}"
        if splits[0] != -np.inf:
            fold.fail(f"NOT isnan({x}) AND {x} != {text.number(splits[-1])} AND {_below(x, float(splits[0]))}", refused)
        if splits[-1] != np.inf:
            fold.fail(f"NOT isnan({x}) AND {x} > {text.number(splits[-1])}", refused)
        if column.nan and not keep:
            fold.fail(f"isnan({x})", f"{stage.flow()}: {source} is NaN" if fold.is_input(source) else refused)
        fold.write(target, Number(bucket, column.nullable, nominal=len(splits) - 1))


def _below(x: str, split: float) -> str:
    """Below a split as Java's binary search has it: the negative zero is below zero."""
    if split != 0.0 or np.signbit(split):
        return f"{x} < {text.number(split)}"
    return f"({x} < 0D OR ({x} = 0D AND CAST({x} AS STRING) = '-0.0'))"


def binarizer(fold: Fold, stage: Stage, fitted: Any) -> None:
    """1 above the threshold, else 0, also for null; a zero in a vector stays zero, or is one below a negative threshold."""
    many = bool(stage.params.get("inputCols"))
    thresholds = fitted.getThresholds() if many and fitted.isSet("thresholds") else [fitted.getThreshold()] * len(stage.inputs)
    for source, target, threshold in zip(stage.inputs, stage.outputs, thresholds, strict=True):
        least = text.number(float(threshold))
        if fold.is_input(source) and fold.type(source) != "double":
            raise CannotFold(f"{source} is a {fold.type(source)}; Spark ML binarizes doubles only")
        value = fold.any(source)
        if isinstance(value, Number):
            known = f"NOT isnan({value.sql}) AND " if value.nan else ""
            fold.write(target, Number(f"IF({known}{value.sql} > {least}, 1D, 0D)"))
            continue
        vector = fold.vector(source, None, stage)
        if threshold < 0:
            # Elements at or below it become zero; NaN and what the vector leaves out, its zeros, stay one.
            moved = vector.map(lambda sql, _, least=least: f"IF({sql} <= {least}, 0D, 1D)",  # type: ignore[misc]
                               lambda values, _, at=threshold: np.where(values <= at, 0.0, 1.0))  # type: ignore[misc]  # fmt: skip
        else:
            moved = vector.map(lambda sql, _, least=least: f"IF({sql} > {least} AND NOT isnan({sql}), 1D, 0D)",  # type: ignore[misc]
                               lambda values, _, at=threshold: np.where(values > at, 1.0, 0.0))  # type: ignore[misc]  # fmt: skip
        fold.write(target, moved)


def scaler(fold: Fold, stage: Stage, shift: Any, scale: Any) -> None:
    """(x - shift) * scale; either may be None."""
    size = len(shift if shift is not None else scale)

    def change(sql: str, at: int) -> str:
        moved = sql if shift is None else f"({sql} - {text.number(float(shift[at]))})"
        return moved if scale is None else text.times(moved, float(scale[at]))

    def constants(values: Any, where: Any) -> Any:
        moved = values if shift is None else values - shift[where]
        return moved if scale is None else moved * scale[where]

    def packed(block: Packed, at: int) -> Packed:
        here = slice(at, at + len(block))
        moves, factors = (None if values is None else values[here] for values in (shift, scale))
        return wide.scale(fold, block, moves, factors, stage)

    fold.write(stage.outputs[0], fold.vector(stage.inputs[0], size, stage).map(change, constants, packed))


def inverse(values: Any, of_zero: float = 0.0) -> Any:
    """1 / value, and `of_zero` for zero."""
    return np.where(values == 0.0, of_zero, 1.0 / np.where(values == 0.0, 1.0, values))


def standard_scaler(fold: Fold, stage: Stage, fitted: Any) -> None:
    """(x - mean) / deviation; a feature that never varied becomes 0."""
    mean, deviation = fitted.mean.toArray(), fitted.std.toArray()
    centred, scaled = bool(stage.params.get("withMean")), bool(stage.params.get("withStd", True))
    _scale(fold, stage, mean if centred else None, inverse(deviation) if scaled else None)


def robust_scaler(fold: Fold, stage: Stage, fitted: Any) -> None:
    """(x - median) / range of the quantiles; a range of zero becomes 0."""
    centred, scaled = bool(stage.params.get("withCentering")), bool(stage.params.get("withScaling", True))
    _scale(fold, stage, fitted.median.toArray() if centred else None, inverse(fitted.range.toArray()) if scaled else None)


def _scale(fold: Fold, stage: Stage, shift: Any, scale: Any) -> None:
    if shift is None and scale is None:
        fold.write(stage.outputs[0], fold.vector(stage.inputs[0], None, stage))
    else:
        scaler(fold, stage, shift, scale)


def max_abs_scaler(fold: Fold, stage: Stage, fitted: Any) -> None:
    """x / greatest absolute value of the training rows."""
    scaler(fold, stage, None, inverse(fitted.maxAbs.toArray(), 1.0))


def min_max_scaler(fold: Fold, stage: Stage, fitted: Any) -> None:
    """The range of the training rows onto [min, max]; a feature that never varied onto its middle, NaN stays NaN."""
    low, high = fitted.originalMin.toArray(), fitted.originalMax.toArray()
    least, most = float(stage.params.get("min", 0.0)), float(stage.params.get("max", 1.0))
    with np.errstate(divide="ignore"):
        scale = np.where(high == low, 0.0, (most - least) / np.where(high == low, 1.0, high - low))
    middle = (least + most) / 2

    def change(sql: str, at: int) -> str:
        if scale[at] == 0.0:
            return f"IF(isnan({sql}), {sql}, {text.number(middle)})"
        return f"(({sql} - {text.number(float(low[at]))}) * {text.number(float(scale[at]))} + {text.number(least)})"

    def constants(values: Any, where: Any) -> Any:
        return np.where(np.isnan(values), values, np.where(scale[where] == 0.0, middle, (values - low[where]) * scale[where] + least))

    fold.write(stage.outputs[0], fold.vector(stage.inputs[0], len(low), stage).map(change, constants))


def elementwise_product(fold: Fold, stage: Stage, fitted: Any) -> None:
    """x * scaling vector."""
    scaler(fold, stage, None, fitted.getScalingVec().toArray())


FEATURES: Final[Mapping[str, Feature]] = {
    "StringIndexerModel": string_indexer,
    "OneHotEncoderModel": one_hot,
    "VectorAssembler": assembler,
    "ImputerModel": imputer,
    "Bucketizer": bucketizer,
    "Binarizer": binarizer,
    "StandardScalerModel": standard_scaler,
    "RobustScalerModel": robust_scaler,
    "MinMaxScalerModel": min_max_scaler,
    "MaxAbsScalerModel": max_abs_scaler,
    "ElementwiseProduct": elementwise_product,
}
