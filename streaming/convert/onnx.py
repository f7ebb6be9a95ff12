"""An ONNX model that somebody brings, wrapped so that it reads and answers like every packaged model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from streaming.config.sections import SavedModel
from streaming.convert.converted import Converted
from streaming.convert.original import Original
from streaming.errors import ModelError
from streaming.scorers import compare, files, signatures
from streaming.scorers.onnx import OnnxScorer, PackageScorer, onnx_file, open_scorer
from streaming.scorers.onnx_tensors import Input

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_NULL_TEXT: Final = "\ue000null"
_INNER: Final = "inner_"
_ML: Final = "ai.onnx.ml"
#: The first versions with LabelEncoder between any two types, and with IsInf and Where.
_OLDEST: Final = {"ai.onnx": 13, _ML: 2}


def original(section: SavedModel, spark: SparkSession | None) -> Original:
    """The model of `section`, ready to be converted. ModelError when it cannot be opened."""
    model = onnx_file(signatures.admitted(section, files.read(section.uri)))
    (content,) = model.files.values()
    scorer = open_scorer(model, section)
    return Original(
        convert=lambda: convert(scorer, content),
        score=lambda columns, converted: scorer.score(columns),
        sha256=model.sha256,
        tolerance=compare.TOLERANCE,
    )


class _Wrap:
    """The nodes around the model: before it, after it, and which rows fail."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = compose.add_prefix(model, _INNER)
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.masks: list[tuple[str, str]] = []
        self.count = 0

    def add(self, op: str, *inputs: str, after: bool = False, domain: str = "", output: str = "", **attributes: Any) -> str:
        self.count += 1
        name = output or f"w{self.count}_{op}"
        node = helper.make_node(op, list(inputs), [name], domain=domain, **attributes)
        (self.after if after else self.before).append(node)
        return name

    def const(self, value: Any, dtype: Any = np.float64) -> str:
        self.count += 1
        name = f"k{self.count}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name


def convert(scorer: OnnxScorer | PackageScorer, content: bytes) -> Converted:
    """The wrapped form. ModelError when it is a package already, when its opset is too old, or a vector input has no size."""
    if isinstance(scorer, PackageScorer):
        raise ModelError(f"{scorer.uri}: this model was made portable before; use it as it is")
    model = onnx.load_from_string(content)
    versions = {each.domain or "ai.onnx": each.version for each in model.opset_import}
    if versions.get("ai.onnx", 1) < _OLDEST["ai.onnx"] or versions.get(_ML, 9) < _OLDEST[_ML]:
        raise ModelError(
            f"{scorer.uri}: made for opset {versions}; expected at least {_OLDEST}: export it again, or see onnx.version_converter"
        )
    wrap = _Wrap(model)
    if _ML not in versions:
        wrap.model.opset_import.append(helper.make_opsetid(_ML, 3))
    unsized = [column.name for column in scorer.read if column.kind == "vector" and not column.size]
    if unsized:
        raise ModelError(
            f"{scorer.uri}: the input {unsized[0]!r} does not say how many numbers a row has; export it with a fixed second dimension"
        )
    inputs = [_input(wrap, column) for column in scorer.read]
    outputs, classes = _outputs(wrap, scorer)
    _rewire(wrap, inputs, outputs)
    onnx.checker.check_model(wrap.model)
    return Converted(
        model=wrap.model,
        kinds=dict(scorer.inputs()),
        sizes={column.name: column.size for column in scorer.read if column.kind == "vector"},
        types={},
        null_text=_NULL_TEXT,
        failures=tuple(text for _, text in wrap.masks),
        labels={},
        classes=classes,
        is_classifier=scorer.probability is not None or classes is not None,
    )


def _input(wrap: _Wrap, column: Input) -> Any:
    """A new input in our form, and the nodes from it to the model's own."""
    text = f"{column.name} is null or cannot be read as {column.element}"
    inner, width = f"{_INNER}{column.name}", column.size if column.kind == "vector" else 1
    shape = wrap.const([-1] if column.rank == 1 else [-1, width], np.int64)
    if column.kind == "text":
        odd = wrap.add("LabelEncoder", column.name, domain=_ML, keys_strings=[_NULL_TEXT], values_floats=[1.0], default_float=0.0)
        wrap.masks.append((wrap.add("Greater", odd, wrap.const([[0.5]], np.float32)), text))
        wrap.add("Reshape", column.name, shape, output=inner)
        return helper.make_tensor_value_info(column.name, TensorProto.STRING, ["n", 1])
    target = _element(wrap, inner)
    kind: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(target))
    if kind.kind == "f":
        value = wrap.add("Cast", column.name, to=target)
        if kind != np.float64:
            lost = wrap.add("IsInf", wrap.add("Cast", value, to=TensorProto.DOUBLE))
            wrap.masks.append((_any(wrap, wrap.add("And", lost, wrap.add("Not", wrap.add("IsInf", column.name)))), text))
    else:
        fits = _fits(wrap, column.name, kind)
        wrap.masks.append((_any(wrap, wrap.add("Not", fits)), text))
        value = wrap.add("Cast", wrap.add("Where", fits, column.name, wrap.const([[0.0]])), to=target)
    wrap.add("Reshape", value, shape, output=inner)
    return helper.make_tensor_value_info(column.name, TensorProto.DOUBLE, ["n", width])


def _fits(wrap: _Wrap, name: str, kind: np.dtype[Any]) -> str:
    """Where a double can be read as the integer or boolean `kind` without loss."""
    if kind.kind == "b":
        return wrap.add("Not", wrap.add("Or", wrap.add("IsNaN", name), wrap.add("IsInf", name)))
    bits = 8 * kind.itemsize
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if kind.kind == "i" else (0.0, 2.0**bits)
    whole = wrap.add("Equal", wrap.add("Floor", name), name)
    inside = wrap.add("And", wrap.add("GreaterOrEqual", name, wrap.const([[low]])), wrap.add("Less", name, wrap.const([[high]])))
    return wrap.add("And", whole, inside)


def _element(wrap: _Wrap, name: str) -> int:
    return next(int(given.type.tensor_type.elem_type) for given in wrap.model.graph.input if given.name == name)


def _any(wrap: _Wrap, mask: str) -> str:
    count = wrap.add("ReduceSum", wrap.add("Cast", mask, to=TensorProto.DOUBLE), wrap.const([1], np.int64), keepdims=1)
    return wrap.add("Greater", count, wrap.const([[0.0]]))


def _outputs(wrap: _Wrap, scorer: OnnxScorer) -> tuple[list[Any], tuple[Any, ...] | None]:
    graph = wrap.model.graph
    label, classes = graph.output[scorer.label], tuple(scorer.classes)
    listed = [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["n"])]
    if scorer.probability is not None:
        source = graph.output[scorer.probability].name
        maps = [node for node in graph.node if node.op_type == "ZipMap" and source in node.output]
        if maps:
            source = maps[0].input[0]
            named = {attribute.name: helper.get_attribute_value(attribute) for attribute in maps[0].attribute}
            classes = tuple(named.get("classlabels_int64s") or [label.decode() for label in named.get("classlabels_strings", [])])
            graph.node.remove(maps[0])
        double = wrap.add("Cast", source, after=True, to=TensorProto.DOUBLE)
        declared = [d.dim_value for d in graph.output[scorer.probability].type.tensor_type.shape.dim]
        if not maps and (len(declared) == 1 or declared[-1:] == [1]):
            positive = wrap.add("Reshape", double, wrap.const([-1, 1], np.int64), after=True)
            double = wrap.add("Concat", wrap.add("Sub", wrap.const([[1.0]]), positive, after=True), positive, after=True, axis=1)
        wrap.add("Identity", double, after=True, output="probability")
        listed.append(helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["n", len(classes) or None]))
    source = label.name
    if classes:
        text = label.type.tensor_type.elem_type == TensorProto.STRING
        keys: dict[str, Any] = {"keys_strings": [str(c) for c in classes]} if text else {"keys_int64s": [int(c) for c in classes]}
        values = [float(i) for i in range(len(classes))]
        source = wrap.add("LabelEncoder", source, after=True, domain=_ML, values_floats=values, default_float=float("nan"), **keys)
    elif label.type.tensor_type.elem_type == TensorProto.STRING:
        raise ModelError(f"{scorer.uri}: the model answers with text and does not say which classes there are; export it with ZipMap")
    double = wrap.add("Cast", source, after=True, to=TensorProto.DOUBLE)
    flat = wrap.const([-1], np.int64)
    wrap.add("Reshape", double, flat, after=True, output="prediction")
    if wrap.masks:
        none = failed = wrap.const([[0]], np.int64)
        for number, (mask, _) in reversed(list(enumerate(wrap.masks, start=1))):
            failed = wrap.add("Where", mask, wrap.const([[number]], np.int64), failed, after=True)
        assert failed != none
        wrap.add("Reshape", failed, flat, after=True, output="failed")
        listed.append(helper.make_tensor_value_info("failed", TensorProto.INT64, ["n"]))
    return listed, classes or None


def _rewire(wrap: _Wrap, inputs: list[Any], outputs: list[Any]) -> None:
    graph = wrap.model.graph
    own = list(graph.node)
    for part in (graph.node, graph.input, graph.output):
        del part[:]
    graph.node.extend([*wrap.before, *own, *wrap.after])
    graph.input.extend(inputs)
    graph.output.extend(outputs)
