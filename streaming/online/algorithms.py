"""Learners by name, as a configuration spells them."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from streaming.online.adaptive.learner import Adaptive
from streaming.online.base import Learner
from streaming.online.kmeans import KMeans
from streaming.online.mllib import MllibLinear, MllibLogistic
from streaming.online.ridge import Ridge
from streaming.online.river import River

#: (algorithm, compat) -> (class, arguments the name already decides)
LEARNERS: Final[dict[tuple[str, str | None], tuple[type[Any], dict[str, Any]]]] = {
    ("linear_regression", None): (Adaptive, {"family": "linear", "k": 1}),
    ("linear_regression", "mllib"): (MllibLinear, {}),
    ("logistic_regression", None): (Adaptive, {"family": "logistic", "k": 1}),
    ("logistic_regression", "mllib"): (MllibLogistic, {}),
    ("softmax", None): (Adaptive, {"family": "softmax"}),
    ("poisson", None): (Adaptive, {"family": "poisson", "k": 1}),
    ("ridge", None): (Ridge, {}),
    ("kmeans", None): (KMeans, {"compat": None}),
    ("kmeans", "mllib"): (KMeans, {"compat": "mllib"}),
    ("river", None): (River, {}),
}


#: Algorithms that have no weights: their state is a program of its own, which only Python can run.
OPAQUE: Final = frozenset({"river"})


def make(algorithm: str, params: Mapping[str, Any]) -> Learner[Any, Any]:
    """The learner called `algorithm` with `params`, of which `compat: mllib` chooses Spark's exact arithmetic.

    ValueError names the parameter, what was given, and the valid names and types.
    """
    names = list(dict.fromkeys(name for name, _ in LEARNERS))
    if algorithm not in names:
        raise ValueError(f"algorithm: unknown {algorithm!r}; valid: {', '.join(names)}")
    compat = params.get("compat")
    if (algorithm, compat) not in LEARNERS:
        valid = [repr(c) for name, c in LEARNERS if name == algorithm and c is not None]
        raise ValueError(f"{algorithm}: compat: got {compat!r}; valid: {', '.join(valid) if valid else 'leave it out'}")
    kind, fixed = LEARNERS[algorithm, compat]
    given = {name: value for name, value in params.items() if name != "compat"}
    valid_types = parameters(algorithm, compat)
    for name in given:
        if name not in valid_types:
            raise ValueError(f"{algorithm}: {name}: unknown parameter; valid: {_listed(valid_types)}")
    for field in fields(kind):
        if field.name in valid_types and field.name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{algorithm}: {field.name}: missing; valid: {_listed(valid_types)}")
    learner: Learner[Any, Any]
    checked = {name: _checked(f"{algorithm}: {name}", value, valid_types[name]) for name, value in given.items()}
    try:
        learner = kind(**fixed, **checked)
    except ValueError as wrong:
        raise ValueError(f"{algorithm}: {wrong}" if not str(wrong).startswith(algorithm) else str(wrong)) from wrong
    return learner


def parameters(algorithm: str, compat: str | None = None) -> dict[str, Any]:
    """The parameters a configuration may give: name -> type."""
    kind, fixed = LEARNERS[algorithm, compat]
    hints = get_type_hints(kind)
    names = {field.name: hints[field.name] for field in fields(kind) if field.name not in fixed and field.name != "compat"}
    if algorithm == "softmax":
        names["k"] = int
    return names


def _listed(valid: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_spelled(hint)})" for name, hint in valid.items())


def _spelled(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_spelled(a) for a in args)
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_spelled(args[0])}"
    if hint is type(None):
        return "null"
    return {int: "whole number", float: "number", bool: "true or false", str: "text"}.get(
        hint, "mapping" if origin is not None else str(hint)
    )


_NUMBERS: Final[dict[Any, Callable[[Any], bool]]] = {
    bool: lambda v: isinstance(v, bool),
    int: lambda v: isinstance(v, int) and not isinstance(v, bool),
    float: lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    str: lambda v: isinstance(v, str),
    type(None): lambda v: v is None,
}


def _checked(where: str, value: Any, hint: Any) -> Any:
    """`value` as `hint` asks (lists become tuples, whole numbers become numbers), or ValueError."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _NUMBERS and _NUMBERS[hint](value):
        return float(value) if hint is float else value
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _checked(where, value, option)
            except ValueError:
                continue
    if origin is Literal and value in args:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_checked(where, item, args[0]) for item in value)
    if (origin is not None and isinstance(origin, type) and issubclass(origin, Mapping)) and isinstance(value, Mapping):
        return value
    raise ValueError(f"{where}: got {value!r}, expected {_spelled(hint)}")
