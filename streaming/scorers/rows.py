"""Rows on which two forms of a model are compared: what the model knows, what it has never seen, nulls and odd numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.scorers.base import ColumnKind

#: Sizes, signs and edges. Nothing beyond 1e15: there the order of the additions decides whether a sum overflows.
_ODD: Final = (0.0, 1.0, -1.0, 0.5, 2.0, 1e-9, 1e6, -1e6, 1e12, -1e15)
_INTEGRAL: Final = {"tinyint": 7, "smallint": 15, "int": 31, "bigint": 53}
_UNSEEN: Final = ("", " ", "never seen", "Ünseen ✓", "0", "null")


def generate(
    n: int,
    kinds: Mapping[str, ColumnKind],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    sizes: Mapping[str, int] | None = None,
    types: Mapping[str, str] | None = None,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """n rows, the same for the same arguments: values that are null, unseen or odd are as frequent as :func:`share` says; the first row is all null.

    `labels`: what a text column may hold; `sizes`: lengths of vectors; `types`: Spark's names, for columns of integers.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, NDArray[Any]] = {}
    few = share(len(kinds))
    for name, kind in kinds.items():
        null = rng.random(n) < few
        null[:1] = True
        if kind == "text":
            columns[name] = _texts(rng, n, (labels or {}).get(name, ()), null, few)
        elif kind == "number":
            columns[name] = _numbers(rng, n, (types or {}).get(name.lower(), "double"), null)
        else:
            size = (sizes or {}).get(name, 1)
            columns[name] = np.column_stack([_numbers(rng, n, "double", null) for _ in range(size)])
    return columns


def share(columns: int) -> float:
    """How many values of a column are null, and how many unseen or odd: one in fifty, of many columns so few that half of the rows have none.

    A row of a thousand columns with a null in every fiftieth would never have an answer, and two forms that never answer agree.
    """
    return min(0.02, 0.35 / max(columns, 1))


def _texts(rng: np.random.Generator, n: int, known: Sequence[str], null: NDArray[np.bool_], few: float) -> NDArray[Any]:
    usual = np.array([*known] or [*_UNSEEN], dtype=object)
    texts = usual[rng.integers(len(usual), size=n)]
    unseen = np.array(_UNSEEN, dtype=object)[rng.integers(len(_UNSEEN), size=n)]
    texts = np.where(rng.random(n) < few, unseen, texts)
    texts[null] = None
    return texts


def _numbers(rng: np.random.Generator, n: int, kind: str, null: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Small, medium and large numbers, many of them whole: thresholds and categories lie between small whole numbers."""
    scale = 10.0 ** rng.integers(0, 4, size=n)
    numbers = rng.normal(size=n) * scale
    whole = rng.random(n) < 0.5
    numbers[whole] = np.floor(np.abs(numbers[whole]))
    odd = rng.random(n) < 0.02
    numbers[odd] = np.array(_ODD)[rng.integers(len(_ODD), size=int(odd.sum()))]
    if kind in _INTEGRAL:
        limit = 2.0 ** _INTEGRAL[kind]
        numbers = np.clip(np.trunc(numbers), -limit, limit - 1)
    elif kind == "float":
        numbers = numbers.astype(np.float32).astype(np.float64)
    numbers[null] = np.nan
    return numbers
