"""The Open Inference Protocol, version 2, as pure functions: tensors to rows' columns, answers to tensors.

A request has one tensor per input column, of shape [n] or [n, 1], and [n, size] for a vector. Beside the standard, `null`
is taken as an unknown value of a column, and stands in the answers of rows that could not be scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.api.instances import Problem, name_of, problems
from streaming.api.served import Served
from streaming.scorers.base import ColumnKind, Scores

_INTEGERS: Final = {"INT32": 31, "INT64": 63}
_FLOATS: Final = ("FP32", "FP64")
_TAKES: Final[dict[ColumnKind, tuple[str, ...]]] = {
    "number": ("FP64", "FP32", "INT64", "INT32", "BOOL"),
    "vector": ("FP64", "FP32", "INT64", "INT32"),
    "text": ("BYTES",),
}
OUTPUTS: Final = ("prediction", "probability", "error")


class Refused(ValueError):
    """The request does not fit the protocol or the model. The text names the tensor, what was expected and what came."""


def metadata(served: Served) -> dict[str, object]:
    """What GET /v2/models/{name} answers."""
    inputs = [
        {"name": name, "datatype": _TAKES[kind][0], "shape": [-1, -1] if kind == "vector" else [-1]} for name, kind in served.inputs.items()
    ]
    outputs = [
        {"name": "prediction", "datatype": "FP64", "shape": [-1]},
        {"name": "probability", "datatype": "FP64", "shape": [-1, -1]},
        {"name": "error", "datatype": "BYTES", "shape": [-1]},
    ]
    return {"name": served.name, "versions": [served.version], "platform": "streaming", "inputs": inputs, "outputs": outputs}


def rows(request: Any, inputs: Mapping[str, ColumnKind], *, most: int) -> list[dict[str, Any]]:
    """The rows of a request, fit for :func:`streaming.api.instances.columns`. Refused when anything does not fit."""
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise Refused('expected an object with "inputs", an array of tensors')
    if not isinstance(request.get("id", ""), str):
        raise Refused(f"id: expected text, got {name_of(request['id'])}")
    wanted_outputs(request)
    made: dict[str, list[Any]] = {}
    for tensor in request["inputs"]:
        name, values = _column(tensor, inputs, most)
        if name in made:
            raise Refused(f"inputs: the tensor {name} is there twice")
        made[name] = values
    missing = [name for name in inputs if name not in made]
    if missing:
        raise Refused(f"inputs: missing {', '.join(missing)}; the model reads {', '.join(inputs)}")
    lengths = {name: len(values) for name, values in made.items()}
    if len(set(lengths.values())) > 1:
        raise Refused("inputs: every tensor needs the same first dimension; got " + ", ".join(f"{k} {n}" for k, n in lengths.items()))
    made_rows = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    wrong = problems(made_rows, inputs)
    if wrong:
        raise Refused(_words(wrong[0]))
    return made_rows


def wanted_outputs(request: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the output tensors that the request asks for; all of them when it names none."""
    asked = request.get("outputs")
    if asked is None or asked == []:
        return OUTPUTS
    if not isinstance(asked, list) or not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in asked):
        raise Refused('outputs: expected an array of objects with "name"')
    unknown = [each["name"] for each in asked if each["name"] not in OUTPUTS]
    if unknown:
        raise Refused(f"outputs: unknown tensor {unknown[0]!r}; the model gives {', '.join(OUTPUTS)}")
    return tuple(each["name"] for each in asked)


def response(request: Mapping[str, Any], served: Served, scores: Scores) -> dict[str, object]:
    """The answer. `probability` is there only if the model gives one; `error` when it is asked for, or a row could not be scored."""
    tensors = []
    explicit = bool(request.get("outputs"))
    for name in wanted_outputs(request):
        if name == "prediction":
            tensors.append(_tensor(name, "FP64", [len(scores.error)], _nullable(scores.prediction)))
        elif name == "probability" and scores.probability is not None:
            tensors.append(_tensor(name, "FP64", list(scores.probability.shape), _nullable(scores.probability.ravel())))
        elif name == "error" and (explicit or any(error is not None for error in scores.error)):
            tensors.append(_tensor(name, "BYTES", [len(scores.error)], list(scores.error)))
    answer: dict[str, object] = {"model_name": served.name, "model_version": served.version, "outputs": tensors}
    return {**answer, "id": request["id"]} if "id" in request else answer


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _column(tensor: Any, inputs: Mapping[str, ColumnKind], most: int) -> tuple[str, list[Any]]:
    """The name of a tensor and its n values (for a vector, n lists)."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise Refused("inputs: expected objects with name, shape, datatype and data")
    name = tensor["name"]
    kind = inputs.get(name)
    if kind is None:
        raise Refused(f"inputs: unknown tensor {name!r}; the model reads {', '.join(inputs)}")
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _TAKES[kind]:
        raise Refused(f"inputs: {name}: expected the datatype {' or '.join(_TAKES[kind])}")
    n, width = _shape(name, kind, tensor.get("shape"))
    if n > most:
        raise Refused(f"inputs: {name}: {n} rows, expected at most {most} in one request (api.max_instances)")
    if not isinstance(tensor.get("data"), list):
        raise Refused(f"inputs: {name}: data: expected an array (the binary extension is not supported)")
    values = tensor["data"]
    if any(isinstance(each, list) for each in values):  # nested by rows, which the protocol allows
        if not all(isinstance(each, list) for each in values):
            raise Refused(f"inputs: {name}: data: expected either a flat array or an array of rows, got both")
        values = list(chain.from_iterable(values))
    if len(values) != n * width:
        raise Refused(f"inputs: {name}: the shape asks for {n * width} values, data has {len(values)}")
    values = [None if each is None else _element(each, datatype, name) for each in values]
    return name, [values[i * width : (i + 1) * width] for i in range(n)] if kind == "vector" else values


def _shape(name: str, kind: ColumnKind, shape: Any) -> tuple[int, int]:
    """Rows and values per row."""
    good = isinstance(shape, list) and all(isinstance(d, int) and not isinstance(d, bool) and 0 <= d < 2**31 for d in shape)
    if good and kind == "vector" and len(shape) == 2:
        return shape[0], shape[1]
    if good and kind != "vector" and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        return shape[0], 1
    raise Refused(f"inputs: {name}: shape: expected {'[rows, size]' if kind == 'vector' else '[rows] or [rows, 1]'}")


def _element(value: Any, datatype: str, name: str) -> Any:
    """One element as the type of its tensor; what is no number at all is left for the check of the rows."""
    if datatype == "BYTES" and not isinstance(value, str):
        raise Refused(f"inputs: {name}: BYTES: expected text, got {name_of(value)}")
    if datatype == "BOOL":
        if not isinstance(value, bool):
            raise Refused(f"inputs: {name}: BOOL: expected true or false, got {name_of(value)}")
        return float(value)
    if datatype in _INTEGERS and not (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2 ** _INTEGERS[datatype]):
        raise Refused(f"inputs: {name}: {datatype}: expected an integer of that size, got {name_of(value)}")
    # 32 bits are taken at their word: the client's value is the nearest float, not the decimal text.
    if datatype == "FP32" and isinstance(value, float) and abs(value) <= float(np.finfo(np.float32).max):
        return float(np.float32(value))
    return value


def _words(problem: Problem) -> str:
    where = problem.field or "a tensor"
    return f"inputs: {where}: row {problem.instance}: {problem.error}"
