"""Spark ML's feature stages as ONNX nodes, one function a stage: nulls, invalid values and failures as Spark has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from streaming.convert.spark.graph import CannotConvert, Graph, Value, affine, concat, either
from streaming.models.spark.metadata import Stage

#: What is known of an event's columns beyond their kinds: Spark's type names, by column.
Types = Mapping[str, str]
Convert = Callable[[Graph, Stage, Any, Types], None]

_INTEGRAL: Final = frozenset({"tinyint", "smallint", "int", "bigint"})


def string_indexer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Label -> its index. Null and unseen: the index after the last with "keep", a failure with "error"."""
    for source, target, labels in zip(stage.inputs, stage.outputs, fitted.labelsArray, strict=True):
        column = graph.text(source)
        keep = stage.params.get("handleInvalid") == "keep"
        keys = [label.encode() for label in labels] or [graph.null_text.encode()]
        index = np.arange(len(keys), dtype=np.float64) if labels else np.array([-1.0])
        tensor = graph.add(
            "LabelEncoder",
            column.tensor,
            domain="ai.onnx.ml",
            keys_tensor=helper.make_tensor("keys", TensorProto.STRING, [len(keys)], keys),
            values_tensor=numpy_helper.from_array(index),
            default_tensor=numpy_helper.from_array(np.array([float(len(labels)) if keep else -1.0])),
        )
        if not keep:
            assert column.null is not None
            graph.fail(column.null, f"{stage.flow()}: {source} is null")
            graph.fail(graph.add("Less", tensor, graph.const([[0.0]])), f"{stage.flow()}: refuses the value of {source}")
        graph.write(target, Value(tensor, 1, None, column.sources))


def one_hot(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Index -> a vector with a one. A null index is a null vector."""
    keep, drop_last = stage.params.get("handleInvalid") == "keep", bool(stage.params.get("dropLast", True))
    for source, target, size in zip(stage.inputs, stage.outputs, fitted.categorySizes, strict=True):
        column = graph.number(source)
        known = graph.add(
            "And",
            graph.add("GreaterOrEqual", column.tensor, graph.const([[0.0]])),
            graph.add("Less", column.tensor, graph.const([[float(size)]])),
        )
        if not keep:
            unknown = graph.add("Not", known)
            unknown = unknown if column.null is None else graph.add("And", unknown, graph.add("Not", column.null))
            graph.fail(unknown, f"{stage.flow()}: refuses the value of {source}")
        index = graph.add("Where", known, graph.add("Floor", column.tensor), graph.const([[float(size)]]))
        width = size + int(keep) - int(drop_last)
        tensor = graph.add("Cast", graph.add("Equal", index, graph.const(np.arange(width)[None, :])), to=TensorProto.DOUBLE)
        graph.write(target, Value(tensor, width, column.null, column.sources * width))


def assembler(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Columns beside each other. "error": null, and NaN in a number, fail. "keep": null becomes NaN."""
    parts: list[Value] = []
    for name in stage.inputs:
        column = graph.any(name)
        if column.is_text:
            raise CannotConvert(f"{name} is read as a number here and as text elsewhere in the model")
        if stage.params.get("handleInvalid") == "keep":
            tensor = column.tensor
            if column.null is not None and column.width:
                tensor = graph.add("Where", column.null, graph.const([[np.nan]]), tensor)
            parts.append(Value(tensor, column.width, None, column.sources))
            continue
        # A vector may hold NaN; a number may not.
        odd = either(graph, column.null, graph.add("IsNaN", column.tensor) if _is_scalar(graph, name, column) else None)
        if odd is not None:
            said = f"{name} is null" if graph.is_input(name) else f"refuses the values of {', '.join(sorted(stage.inputs))}"
            graph.fail(odd, f"{stage.flow()}: {said}")
        parts.append(column)
    graph.write(stage.outputs[0], concat(graph, parts))


def _is_scalar(graph: Graph, name: str, column: Value) -> bool:
    # Numbers that stages make are never NaN, so only those of the event are asked; a vector of one element would look alike.
    return column.width == 1 and graph.is_input(name)


def imputer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Null, and `missingValue`, become the surrogate; in the column's own type, so that 2.7 becomes 2 in a column of integers."""
    surrogates = fitted.surrogateDF.first().asDict()
    missing = float(fitted.getMissingValue())
    for source, target in zip(stage.inputs, stage.outputs, strict=True):
        column = graph.number(source)
        gone = graph.add(
            "IsNaN" if np.isnan(missing) else "Equal", column.tensor, *([] if np.isnan(missing) else [graph.const([[missing]])])
        )
        gone = either(graph, gone, column.null) or gone
        value = _as(types.get(source.lower(), "double"), float(surrogates[source]))
        tensor = graph.add("Where", gone, graph.const([[value]]), column.tensor)
        graph.write(target, Value(tensor, 1, None, column.sources))


def _as(kind: str, value: float) -> float:
    if kind in _INTEGRAL:
        return float(np.trunc(value))
    return float(np.float32(value)) if kind == "float" else value


def bucketizer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Number -> the number of its bucket. Outside the splits a row fails; null stays null."""
    many = bool(stage.params.get("inputCols"))
    all_splits = fitted.getSplitsArray() if many else [fitted.getSplits()]
    for source, target, splits in zip(stage.inputs, stage.outputs, all_splits, strict=True):
        column = graph.number(source)
        edges, last = graph.const(np.array(splits)[None, :]), graph.const([[float(splits[-1])]])
        above = graph.add("Cast", graph.add("GreaterOrEqual", column.tensor, edges), to=TensorProto.DOUBLE)
        count = graph.add("ReduceSum", above, graph.const([1], np.int64), keepdims=1)
        # The last bucket holds its upper end, too.
        top = graph.add("Cast", graph.add("Equal", column.tensor, last), to=TensorProto.DOUBLE)
        bucket = graph.add("Sub", graph.add("Sub", count, graph.const([[1.0]])), top)
        outside = graph.add("Less", column.tensor, graph.const([[float(splits[0])]]))
        outside = graph.add("Or", outside, graph.add("Greater", column.tensor, last))
        graph.fail(outside, f"{stage.flow()}: refuses the value of {source}")
        nan = graph.add("IsNaN", column.tensor)
        if stage.params.get("handleInvalid") == "keep":
            bucket = graph.add("Where", nan, graph.const([[len(splits) - 1.0]]), bucket)
        else:
            odd = nan if column.null is None else graph.add("And", nan, graph.add("Not", column.null))
            graph.fail(odd, f"{stage.flow()}: refuses the value of {source}")
        graph.write(target, Value(bucket, 1, column.null, column.sources))


def binarizer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """1 above the threshold, else 0, also for null; a zero in a vector stays zero, whatever the threshold."""
    many = bool(stage.params.get("inputCols"))
    thresholds = fitted.getThresholds() if many and fitted.isSet("thresholds") else [fitted.getThreshold()] * len(stage.inputs)
    for source, target, threshold in zip(stage.inputs, stage.outputs, thresholds, strict=True):
        column = graph.any(source)
        above = graph.add("Greater", column.tensor, graph.const([[float(threshold)]]))
        if column.width != 1:
            if column.null is not None:
                graph.fail(column.null, f"{stage.flow()}: refuses the value of {source}")
            above = graph.add("And", above, graph.add("Not", graph.add("Equal", column.tensor, graph.const([[0.0]]))))
        graph.write(target, Value(graph.add("Cast", above, to=TensorProto.DOUBLE), column.width, None, column.sources))


def standard_scaler(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """(x - mean) / deviation; a feature that never varied becomes 0."""
    mean, deviation = fitted.mean.toArray(), fitted.std.toArray()
    column = graph.vector(stage.inputs[0], len(mean), stage.flow())
    tensor = column.tensor
    if stage.params.get("withMean"):
        tensor = graph.add("Sub", tensor, graph.const(mean[None, :]))
    if stage.params.get("withStd", True):
        tensor = graph.add("Mul", tensor, graph.const(_inverse(deviation, 0.0)[None, :]))
    graph.write(stage.outputs[0], Value(tensor, column.width, None, column.sources))


def _inverse(values: Any, of_zero: float) -> Any:
    return np.where(values == 0.0, of_zero, 1.0 / np.where(values == 0.0, 1.0, values))


def min_max_scaler(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """The range of the training rows onto [min, max]; a feature that never varied onto its middle, NaN stays NaN."""
    low, high = fitted.originalMin.toArray(), fitted.originalMax.toArray()
    column = graph.vector(stage.inputs[0], len(low), stage.flow())
    least, most = float(stage.params.get("min", 0.0)), float(stage.params.get("max", 1.0))
    scale = np.where(high == low, 0.0, (most - least) * _inverse(high - low, 0.0))
    moved = graph.add("Mul", graph.add("Sub", column.tensor, graph.const(low[None, :])), graph.const(scale[None, :]))
    moved = graph.add("Add", moved, graph.const([[least]]))
    still = graph.add("And", graph.const((scale == 0.0)[None, :], np.bool_), graph.add("Not", graph.add("IsNaN", column.tensor)))
    tensor = graph.add("Where", still, graph.const([[0.5 * (most + least)]]), moved)
    graph.write(stage.outputs[0], Value(tensor, column.width, None, column.sources))


def max_abs_scaler(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """x / greatest absolute value of the training rows."""
    most = fitted.maxAbs.toArray()
    column = graph.vector(stage.inputs[0], len(most), stage.flow())
    tensor = graph.add("Mul", column.tensor, graph.const(_inverse(most, 1.0)[None, :]))
    graph.write(stage.outputs[0], Value(tensor, column.width, None, column.sources))


def normalizer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """x / its p-norm; the zero vector stays."""
    column = _made(graph, stage)
    p, axis = float(fitted.getP()), graph.const([1], np.int64)
    size = graph.add("Abs", column.tensor)
    if p == np.inf:
        norm = graph.add("ReduceMax", size, axis, keepdims=1)
    elif p == 1.0:
        norm = graph.add("ReduceSum", size, axis, keepdims=1)
    elif p == 2.0:
        norm = graph.add("Sqrt", graph.add("ReduceSum", graph.add("Mul", size, size), axis, keepdims=1))
    else:
        total = graph.add("ReduceSum", graph.add("Pow", size, graph.const([[p]])), axis, keepdims=1)
        norm = graph.add("Pow", total, graph.const([[1.0 / p]]))
    one = graph.const([[1.0]])
    norm = graph.add("Where", graph.add("Equal", norm, graph.const([[0.0]])), one, norm)
    tensor = graph.add("Mul", column.tensor, graph.add("Div", one, norm))
    graph.write(
        stage.outputs[0], Value(tensor, column.width, None, column.sources if len(set(column.sources)) == 1 else (None,) * column.width)
    )


def pca(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """The vector in the space of the principal components."""
    components = fitted.pc.toArray()
    column = graph.vector(stage.inputs[0], components.shape[0], stage.flow())
    only = set(column.sources)
    sources = tuple(only if len(only) == 1 else (None,)) * components.shape[1]
    graph.write(stage.outputs[0], Value(affine(graph, column.tensor, components), components.shape[1], None, sources))


def slicer(graph: Graph, stage: Stage, fitted: Any, types: Types) -> None:
    """Some elements of a vector, by their places."""
    if stage.params.get("names"):
        raise CannotConvert("it selects by names; select by indices")
    column, places = _made(graph, stage), [int(i) for i in fitted.getIndices()]
    tensor = graph.add("Gather", column.tensor, graph.const(places, np.int64), axis=1)
    graph.write(stage.outputs[0], Value(tensor, len(places), None, tuple(column.sources[i] for i in places)))


def _made(graph: Graph, stage: Stage) -> Value:
    """The vector that an earlier stage made: this stage does not know how long a vector of the event would be."""
    made = graph.values.get(stage.inputs[0].lower())
    if made is None:
        raise CannotConvert(
            f"it reads the vector {stage.inputs[0]} from the event, whose length the model does not say; put a VectorAssembler before it"
        )
    return graph.vector(stage.inputs[0], made.width, stage.flow())


FEATURES: Final[Mapping[str, Convert]] = {
    "StringIndexerModel": string_indexer,
    "OneHotEncoderModel": one_hot,
    "VectorAssembler": assembler,
    "ImputerModel": imputer,
    "Bucketizer": bucketizer,
    "Binarizer": binarizer,
    "StandardScalerModel": standard_scaler,
    "MinMaxScalerModel": min_max_scaler,
    "MaxAbsScalerModel": max_abs_scaler,
    "Normalizer": normalizer,
    "PCAModel": pca,
    "VectorSlicer": slicer,
}
