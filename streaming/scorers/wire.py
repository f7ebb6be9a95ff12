"""What passes between a service and the process that holds a model: lengths, JSON and the bytes of arrays. Nothing of it can be code."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.scorers.base import Scores

#: The two lengths before each message: of its JSON, and of the arrays after it.
HEAD: Final = struct.Struct(">QQ")
#: No answer is longer; a process that says so is broken.
LONGEST: Final = 1 << 32

#: A message: what it says, and its arrays by name.
Message = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def pack(said: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> bytes:
    """The message as bytes. Arrays are float64 (or uint8); arrays of objects hold text and None, and travel as JSON."""
    listed, parts = [], []
    for name, array in (arrays or {}).items():
        if array.dtype.kind in "OU":
            listed.append({"name": name, "texts": array.tolist()})
            continue
        values = np.ascontiguousarray(array, dtype=array.dtype if array.dtype == np.uint8 else np.float64)
        listed.append({"name": name, "type": values.dtype.str, "shape": list(array.shape)})
        parts.append(values.tobytes())
    text = json.dumps({**said, "arrays": listed}).encode()
    body = b"".join(parts)
    return HEAD.pack(len(text), len(body)) + text + body


def unpack(text: bytes, body: bytes) -> Message:
    """The message in `text` and `body`. ValueError, KeyError or TypeError when it is none."""
    said = json.loads(text)
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for each in said.pop("arrays"):
        if "texts" in each:
            column: NDArray[Any] = np.empty(len(each["texts"]), dtype=object)
            column[:] = each["texts"]
            arrays[each["name"]] = column
            continue
        kind, shape = np.dtype({"<f8": "<f8", "|u1": "|u1"}[each["type"]]), [int(n) for n in each["shape"]]
        count = int(np.prod(shape, dtype=np.int64))
        arrays[each["name"]] = np.frombuffer(body, dtype=kind, count=count, offset=at).reshape(shape).copy()
        at += count * kind.itemsize
    return said, arrays


def of_scores(scores: Scores) -> bytes:
    """The answer to a request for scores."""
    arrays = {"prediction": scores.prediction} | ({} if scores.probability is None else {"probability": scores.probability})
    return pack({"ok": True, "error": [None if said is None else str(said) for said in scores.error]}, arrays)


def scores_of(message: Message) -> Scores:
    """The scores in an answer. ValueError, KeyError or TypeError when there are none."""
    said, arrays = message
    prediction, probability, error = arrays["prediction"], arrays.get("probability"), list(said["error"])
    if prediction.ndim != 1 or len(error) != len(prediction) or not all(isinstance(each, str | None) for each in error):
        raise ValueError("no scores")
    if probability is not None and (probability.ndim != 2 or len(probability) != len(prediction)):
        raise ValueError("no probabilities")
    return Scores(prediction, probability, error)
