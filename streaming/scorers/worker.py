"""What runs in Spark's Python workers: the model is opened once a process, and scores Arrow batches. Imports nothing of Spark's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import pyarrow as pa

from streaming.errors import ModelError
from streaming.scorers.arrow import Rows, answers, columns, failed
from streaming.scorers.base import ColumnKind, Columns, Scorer, Scores
from streaming.scorers.files import Package

Opener = Callable[[Package], Scorer]

#: A worker that has seen more models than this drops the oldest: a service reloads its model now and then.
_KEPT: Final = 4

#: The models that this Python process has open, by what was asked for.
_open: dict[str, Scorer] = {}


class Shared(Protocol):
    """A package that every executor can read: Spark's broadcast."""

    @property
    def value(self) -> Package:
        """The package."""


def scoring(shared: Shared, name: str, open_: Opener, kinds: Mapping[str, ColumnKind]) -> Callable[..., Any]:
    """The function that workers run. It carries the name of the model and where its bytes are, never an open model."""

    def score(*arrays: pa.Array) -> pa.Array:
        return _score(_opened(name, lambda: open_(shared.value)), kinds, arrays)

    # Type hints are how Spark tells kinds of functions apart; under `annotations` they would be mere text.
    score.__annotations__ = {"arrays": pa.Array, "return": pa.Array}
    return score


def _opened(name: str, open_: Callable[[], Scorer]) -> Scorer:
    if name not in _open:
        while len(_open) >= _KEPT:
            _open.pop(next(iter(_open)))
        _open[name] = open_()
    return _open[name]


def _score(scorer: Scorer, kinds: Mapping[str, ColumnKind], arrays: Sequence[pa.Array]) -> pa.Array:
    """Arrow columns, in the order of `kinds`, as Arrow answers: a struct of prediction, probability and error for each row."""
    n = len(arrays[0])
    texts: list[str | None] = [None] * n
    parts = [(some, scores) for rows, values in columns(kinds, arrays, texts) for some, scores in _parts(scorer, rows, values)]
    return answers(n, parts, texts)


def _parts(scorer: Scorer, rows: Rows, values: Columns) -> Iterator[tuple[Rows, Scores]]:
    """The scores of the rows: of all at once, or, when the scorer refuses that, of ever smaller halves, down to the row that is why."""
    try:
        yield rows, scorer.score(values)
    except ModelError:
        if len(rows) > 1:
            half = len(rows) // 2
            for part in (slice(None, half), slice(half, None)):
                yield from _parts(scorer, rows[part], {name: column[part] for name, column in values.items()})
            return
        # Not the scorer's own words: nobody knows whether they hold values.
        sizes = [f"{name} has {column.shape[1]} numbers" for name, column in values.items() if column.ndim == 2]
        yield rows, failed(1, "; ".join(["the model refuses the row", *sizes]))
