"""An ONNX graph under construction: named columns in double precision, and the failures of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from streaming.errors import ModelError
from streaming.scorers.base import ColumnKind

#: Opsets that every onnxruntime since 1.18 runs. TreeEnsemble came with ai.onnx.ml 5: the first one that answers in double.
OPSET: Final = 19
OPSET_ML: Final = 5
_IR_VERSION: Final = 9
_NAMES: Final = ("prediction", "probability", "features", "failed")


class CannotConvert(Exception):
    """A stage has no portable form; the text says why. Becomes a ModelError that names the stage."""


@dataclass(frozen=True)
class Value:
    """A column inside the graph: a tensor of shape (n, width), double or string."""

    tensor: str
    width: int
    #: Boolean tensor (n, 1): where the column is null. None: nowhere.
    null: str | None = None
    #: For each element the one input column that it is computed from; None when there are several.
    sources: tuple[str | None, ...] = ()
    is_text: bool = False


@dataclass
class Graph:
    """The nodes so far. Columns are found by their names as Spark finds them: upper and lower case are alike."""

    #: Stands for null in a text input; no label of the model is equal to it.
    null_text: str
    #: The kind of every input column.
    kinds: Mapping[str, ColumnKind]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    #: Why rows fail: text i belongs to the number i + 1 of the output `failed`.
    failures: list[str] = field(default_factory=list)
    _failed: str | None = None

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the name of the output."""
        name = f"v{len(self.nodes)}_{op}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], domain=domain, **attributes))
        return name

    def const(self, value: Any, dtype: Any = np.float64) -> str:
        """A constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def number(self, name: str) -> Value:
        """The column of numbers `name`; made an input of the graph when no stage has written it."""
        return self._value(name, "number", 1)

    def text(self, name: str) -> Value:
        """The column of text `name`."""
        value = self._value(name, "text", 1)
        if not value.is_text:
            raise CannotConvert(f"{name} is read as text here, and is a number elsewhere in the model")
        return value

    def vector(self, name: str, width: int, where: str) -> Value:
        """The vector column `name` of `width` elements. A row where it is null fails: no stage of Spark ML takes a null vector."""
        value = self._value(name, "vector", width)
        if value.width != width:
            raise CannotConvert(f"{name} has {value.width} elements, expected {width}")
        if value.null is not None:
            self.fail(value.null, f"{where}: {name} is null")
        return value

    def any(self, name: str) -> Value:
        """The column `name`, number or vector, as an earlier stage wrote it; an input is a number."""
        return self.values.get(name.lower()) or self.number(name)

    def write(self, name: str, value: Value) -> None:
        """A stage has written the column `name`."""
        self.values[name.lower()] = value

    def is_input(self, name: str) -> bool:
        """True when the event gives the column."""
        return name.lower() in {seen.lower() for seen in self.inputs}

    def _value(self, name: str, kind: ColumnKind, width: int) -> Value:
        value = self.values.get(name.lower())
        if value is None:
            declared = next((k for seen, k in self.kinds.items() if seen.lower() == name.lower()), kind)
            if "text" in {declared, kind} and declared != kind:
                raise CannotConvert(f"{name} is read as {kind} here and as {declared} elsewhere in the model")
            value = self._input(next((seen for seen in self.kinds if seen.lower() == name.lower()), name), kind, width)
        return value

    def _input(self, name: str, kind: ColumnKind, width: int) -> Value:
        # An input may be called as the graph's own tensors are, so it gets a node and a name of its own.
        tensor = self.add("Identity", name)
        if kind == "text":
            null = self.add("Equal", tensor, self.const([[self.null_text]], np.object_))
        elif kind == "number":
            null = self.add("IsNaN", tensor)
        else:
            count = self.add(
                "ReduceSum", self.add("Cast", self.add("IsNaN", tensor), to=TensorProto.DOUBLE), self.const([1], np.int64), keepdims=1
            )
            null = self.add("Equal", count, self.const([[width]]))
        value = Value(tensor, width, null, (name,) * width, kind == "text")
        self.inputs[name] = value
        self.write(name, value)
        return value

    def fail(self, mask: str, text: str) -> None:
        """Rows where `mask` (boolean, (n, 1)) fail with `text`, unless they have failed before."""
        if text not in self.failures:
            self.failures.append(text)
        number = self.const([[self.failures.index(text) + 1]], np.int64)
        none = self.const([[0]], np.int64)
        number_or_none = self.add("Where", mask, number, none)
        if self._failed is not None:
            before = self.add("Equal", self._failed, none)
            number_or_none = self.add("Where", before, number_or_none, self._failed)
        self._failed = number_or_none

    def finish(self, prediction: str, probability: Value | None, features: Value | None, where: str) -> onnx.ModelProto:
        """The model, checked. Rows whose answer is no finite number fail, as those of a SparkModel do."""
        taken = sorted(set(_NAMES) & set(self.inputs))
        if taken:
            raise ModelError(
                f"the model reads a column {taken[0]!r}; the portable form needs the names {', '.join(_NAMES)} for its answers"
            )
        self.fail(self.add("IsNaN", prediction), f"{where}: prediction is NaN")
        self.fail(self.add("IsInf", prediction), f"{where}: prediction is infinite")
        if probability is not None:
            odd = self.add("Cast", self.add("IsNaN", probability.tensor), to=TensorProto.DOUBLE)
            odd = self.add("ReduceMax", odd, self.const([1], np.int64), keepdims=1)
            self.fail(self.add("Greater", odd, self.const([[0.0]])), f"{where}: probability is NaN")
        assert self._failed is not None
        good = self.add("Equal", self._failed, self.const([[0]], np.int64))
        nan, flat = self.const([[np.nan]]), self.const([-1], np.int64)
        self._output("Reshape", "prediction", self.add("Where", good, prediction, nan), flat)
        outputs = [helper.make_tensor_value_info("prediction", TensorProto.DOUBLE, ["n"])]
        for name, value in (("probability", probability), ("features", features)):
            if value is not None:
                self._output("Where", name, good, value.tensor, nan)
                outputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", value.width]))
        self._output("Reshape", "failed", self._failed, flat)
        outputs.append(helper.make_tensor_value_info("failed", TensorProto.INT64, ["n"]))
        model = helper.make_model(
            helper.make_graph(self.nodes, "model", self._declared_inputs(), outputs, self.constants),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", OPSET_ML)],
            ir_version=_IR_VERSION,
            producer_name="streaming",
        )
        onnx.checker.check_model(model)
        return model

    def _output(self, op: str, name: str, *inputs: str) -> None:
        self.nodes.append(helper.make_node(op, list(inputs), [name]))

    def _declared_inputs(self) -> list[Any]:
        kinds = {True: TensorProto.STRING, False: TensorProto.DOUBLE}
        return [helper.make_tensor_value_info(name, kinds[value.is_text], ["n", value.width]) for name, value in self.inputs.items()]


def either(graph: Graph, *masks: str | None) -> str | None:
    """The `or` of the masks that there are; None when there are none."""
    joined: str | None = None
    for mask in masks:
        if mask is not None:
            joined = mask if joined is None else graph.add("Or", joined, mask)
    return joined


def affine(graph: Graph, value: str, matrix: NDArray[np.float64], offset: NDArray[np.float64] | float = 0.0) -> str:
    """`value @ matrix + offset`."""
    product = graph.add("MatMul", value, graph.const(matrix))
    return graph.add("Add", product, graph.const(np.reshape(offset, (1, -1))))


def concat(graph: Graph, parts: Sequence[Value]) -> Value:
    """The columns beside each other, in order."""
    wide = [part.tensor for part in parts if part.width]
    if not wide:
        raise CannotConvert("the assembled vector has no elements")
    tensor = wide[0] if len(wide) == 1 else graph.add("Concat", *wide, axis=1)
    return Value(tensor, sum(part.width for part in parts), None, tuple(source for part in parts for source in part.sources))
