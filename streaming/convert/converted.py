"""What every conversion gives: an ONNX model, and what it takes to feed it and to read its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from streaming.scorers.base import ColumnKind


@dataclass(frozen=True)
class Linear:
    """link(prediction) = intercept + the sum of coefficient * feature. logit: the log-odds of class 1."""

    link: str
    intercept: float
    coefficients: tuple[float, ...]
    #: Of each feature, the input column it is computed from; None when there are several.
    sources: tuple[str | None, ...]


@dataclass(frozen=True)
class Converted:
    """A model with the outputs prediction (n,), and where they exist probability (n, classes), features (n, d), failed (n,)."""

    model: onnx.ModelProto = field(repr=False)
    kinds: Mapping[str, ColumnKind]
    #: The length of each vector input.
    sizes: Mapping[str, int]
    #: The types of the event's columns as far as they are known: lower case name -> Spark's type.
    types: Mapping[str, str]
    #: What a text input holds where the column is null.
    null_text: str
    #: Text of the number i + 1 of the output `failed`.
    failures: tuple[str, ...]
    #: Of each text input the values that the model knows.
    labels: Mapping[str, tuple[str, ...]]
    linear: Linear | None = None
    #: The labels of the classes, in the order of their indexes, where they are known.
    classes: tuple[Any, ...] | None = None
    is_classifier: bool = False

    def manifest(self) -> dict[str, Any]:
        """What a scorer has to know."""
        linear = self.linear
        single = linear is not None and None not in linear.sources
        return {
            "inputs": [
                {"name": name, "kind": kind}
                | ({"size": self.sizes[name]} if kind == "vector" else {})
                | ({"type": self.types[name.lower()]} if name.lower() in self.types else {})
                | ({"labels": list(self.labels[name])} if name in self.labels else {})
                for name, kind in self.kinds.items()
            ],
            "null_text": self.null_text,
            "outputs": [output.name for output in self.model.graph.output],
            "classes": None if self.classes is None else list(self.classes),
            "failures": list(self.failures),
            "linear": {
                "link": linear.link,
                "intercept": linear.intercept,
                "coefficients": list(linear.coefficients),
                "sources": list(linear.sources),
            }
            if linear is not None and single
            else None,
            "opset": {each.domain or "ai.onnx": each.version for each in self.model.opset_import},
        }
