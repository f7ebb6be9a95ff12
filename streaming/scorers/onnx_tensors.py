"""The tensors of an ONNX model that somebody brings, between them and a scorer's columns: told by types, shapes and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.errors import ModelError
from streaming.scorers import standalone
from streaming.scorers.base import ColumnKind

#: Element type of a tensor -> the type NumPy knows it by.
_NUMPY: Final = {
    "double": np.float64, "float": np.float32, "float16": np.float16, "bool": np.bool_, "int64": np.int64, "int32": np.int32,
    "int16": np.int16, "int8": np.int8, "uint64": np.uint64, "uint32": np.uint32, "uint16": np.uint16, "uint8": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One input of a bare model."""

    name: str
    kind: ColumnKind
    #: Tensor element type, by its ONNX name.
    element: str
    #: Number of dimensions of the tensor, 1 or 2.
    rank: int
    #: Elements in a row; 0: any number.
    size: int


def columns_of(uri: str, inputs: Sequence[Any]) -> tuple[Input, ...]:
    """The inputs of a model, as columns. ModelError on one that is no tensor of numbers or text, (n,) or (n, k)."""
    columns = []
    for given in inputs:
        element = given.type.removeprefix("tensor(").removesuffix(")")
        rank, last = len(given.shape or ()), given.shape[-1] if given.shape else None
        if not given.type.startswith("tensor(") or (element != "string" and element not in _NUMPY) or rank not in {1, 2}:
            raise ModelError(
                f"{uri}: input {given.name!r} is {given.type} of shape {given.shape}; expected a tensor of numbers or text, (n,) or (n, k)"
            )
        size = last if rank == 2 and isinstance(last, int) else 0
        scalar = rank == 1 or size == 1
        if element == "string" and not scalar:
            raise ModelError(f"{uri}: input {given.name!r} is a matrix of text; expected one column of text an input")
        kind: ColumnKind = "text" if element == "string" else "number" if scalar else "vector"
        columns.append(Input(given.name, kind, element, rank, size))
    return tuple(columns)


def outputs_of(uri: str, outputs: Sequence[Any]) -> tuple[int, int | None]:
    """Where the prediction and the probabilities stand: told by type and name, as scikit-learn, Spark and PyTorch exporters give them."""
    names = [output.name.lower() for output in outputs]
    maps = [i for i, output in enumerate(outputs) if output.type.startswith("seq(map(")]
    called = [i for i, name in enumerate(names) if "probab" in name and outputs[i].type.startswith("tensor(")]
    probability = next(iter([*maps, *called]), None)
    rest = [i for i in range(len(outputs)) if i != probability and outputs[i].type.startswith("tensor(")]
    named = [i for i in rest if names[i] in {"prediction", "label", "output_label", "variable", "predicted_label"}]
    if not rest:
        raise ModelError(f"{uri}: no output with a prediction; the outputs are {', '.join(names)}")
    label = (named or rest)[0]
    if probability is None and len(rest) == 2 and outputs[label].type in {"tensor(int64)", "tensor(string)"}:
        # A classifier's second output of shape (n, classes) under some other name.
        other = next(i for i in rest if i != label)
        if outputs[other].type in {"tensor(float)", "tensor(double)"} and len(outputs[other].shape or ()) == 2:
            probability = other
    return label, probability


def tensor_of(column: Input, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The column as the model reads it, and the rows in which it cannot."""
    shape = values.shape if column.kind == "vector" else (len(values), 1) if column.rank == 2 else (len(values),)
    if column.kind == "text":
        bad = np.array([value is None or value != value for value in values], dtype=bool)
        texts = np.array(["" if odd else standalone.spelled(value) for value, odd in zip(values, bad, strict=True)], dtype=object)
        return texts.reshape(shape), bad
    wanted: np.dtype[Any] = np.dtype(_NUMPY[column.element])
    numbers: NDArray[np.float64] = np.array(values, dtype=np.float64)
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            tensor: NDArray[Any] = numbers.astype(wanted)
        # A number that was finite and is not in the model's own precision is no number of the event's.
        lost: NDArray[np.bool_] = np.isinf(tensor) & ~np.isinf(numbers)
        return tensor.reshape(shape), np.logical_or.reduce(_rows(lost), axis=1)
    fits: NDArray[np.bool_] = np.isfinite(numbers)
    if wanted.kind in "iu":
        bits, signed = 8 * wanted.itemsize, wanted.kind == "i"
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1)) if signed else (0.0, 2.0**bits)
        fits &= (numbers >= low) & (numbers < high) & (numbers == np.trunc(numbers))
    tensor = np.where(fits, numbers, 0.0).astype(wanted)
    return tensor.reshape(shape), ~np.logical_and.reduce(_rows(fits), axis=1)


def _rows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask if mask.ndim == 2 else mask[:, None]


def probabilities_of(said: Any) -> tuple[NDArray[np.float64], tuple[Any, ...]]:
    """A matrix of probabilities, and the classes if the model says them (ZipMap: a list of dicts)."""
    if isinstance(said, list):
        names = tuple(said[0]) if said else ()
        return np.array([[row[name] for name in names] for row in said], dtype=np.float64).reshape(len(said), len(names)), names
    matrix = np.array(said, dtype=np.float64)
    if matrix.ndim == 1 or matrix.shape[-1] == 1:
        # The probability of class 1 alone.
        positive = matrix.reshape(-1)
        return np.column_stack([1.0 - positive, positive]), ()
    return matrix.reshape(len(matrix), -1), ()
