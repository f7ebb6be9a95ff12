"""Parameters of a scikit-learn estimator that turn data into paths: an event must never say which file is read, nor a model where one is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

#: Objects of one model. More is no model that somebody fitted.
MOST_OBJECTS: Final = 5_000_000
_PLAIN: Final = (str, bytes, int, float, complex, bool, type(None), np.generic, type)


def check(estimator: Any) -> None:
    """ValueError, naming the class and the parameter, when any object inside the estimator reads or writes files that data or the model name.

    `input`: of a text vectorizer; "filename" and "file" open what an event says. `memory`: where a Pipeline or a clustering keeps
    pickles, and opens those that it finds.
    """
    for part in _parts(estimator):
        held = vars(part) if hasattr(part, "__dict__") else {}
        name = type(part).__name__
        if isinstance(held.get("input"), str) and held["input"] != "content":
            raise ValueError(f"{name}(input={held['input']!r}) opens the files that events name; save it with input='content'")
        if held.get("memory") is not None and hasattr(part, "get_params"):
            raise ValueError(f"{name}(memory=...) keeps files and opens what it finds there; save it with memory=None")


def _parts(top: Any) -> Iterator[Any]:
    """Every object that is reachable from `top`, once, without recursion."""
    waiting, seen = [top], set[int]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, _PLAIN) or id(part) in seen:
            continue
        if len(seen) > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS} objects")
        seen.add(id(part))
        yield part
        waiting += _inside(part)


def _inside(part: Any) -> list[Any]:
    if isinstance(part, np.ndarray):
        return list(part.ravel()) if part.dtype == object else []
    if isinstance(part, Mapping):
        return [*part.keys(), *part.values()]
    if isinstance(part, list | tuple | set | frozenset):
        return list(part)
    return list(vars(part).values()) if hasattr(part, "__dict__") else []
