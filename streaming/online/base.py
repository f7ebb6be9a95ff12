"""What every learner promises: state in, state out, and nothing else changes.

The rows of one micro-batch may lie on several machines. `summarize` runs beside the rows, `merge` joins two results
in partition order, `update` runs once. With one partition this is exactly the sequential algorithm.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streaming.online.weights import Scored, Weights

Array = NDArray[np.float64]
S = TypeVar("S")
T = TypeVar("T")

#: What a learner accepts as a label: 0/1 · a class number 0..k-1 · any finite number · a number >= 0 · nothing.
Labels = Literal["binary", "classes", "number", "count", "none"]

#: Larger magnitudes are rejected: their squares, summed over 1e8 rows, would still have to fit a double (1e308).
LARGEST: Final = 1e140


@runtime_checkable
class Learner(Protocol[S, T]):
    """A frozen dataclass of hyperparameters; every method is a pure function that never changes its arguments.

    Shapes: X (n, d) float64 and y (n,) float64, finite (:func:`valid_rows` finds those that are not); n = 0 is
    allowed and changes nothing, unless the learner's docstring says otherwise.
    """

    #: Dataclasses of arrays and numbers: what :func:`to_arrays` and :func:`pack` take and give back.
    state_type: ClassVar[type[Any]]
    summary_type: ClassVar[type[Any]]

    @property
    def labels(self) -> Labels:
        """Which labels this learner accepts."""

    @property
    def classes(self) -> int:
        """The number of classes, 0 when there are none."""

    @property
    def sequential(self) -> bool:
        """True: all rows of a batch must be in one partition (:meth:`update` refuses two)."""

    @property
    def scale_free(self) -> bool:
        """True: features of any finite scale leave the state finite, as the learner standardises or averages them.

        False: they may drive it to infinity (plain gradient descent does), which `Weights.finite` shows.
        """

    @property
    def chunk(self) -> int | None:
        """Batches may be cut after any multiple of this many rows without a different result. None: cuts matter."""

    def init(self, d: int) -> S:
        """The state before the first row, for `d` features."""

    def warm(self, weights: Weights) -> S:
        """A state that predicts as `weights` do, and learns on from there. ValueError if they are of another kind or shape."""

    def predict(self, state: S, X: Array) -> Array:
        """(n,) probability of class 1, value or cluster number; (n, k) class probabilities for several classes."""

    def score(self, state: S, X: Array) -> Scored:
        """What goes into a prediction record: `prediction` (n,) and, for classifiers, `probability` (n, k)."""

    def summarize(self, state: S, X: Array, y: Array) -> T:
        """What one partition adds to `state`; row order matters unless the learner says otherwise."""

    def merge(self, left: T, right: T) -> T:
        """Two neighbouring partitions as one; associative up to rounding, deterministic for a given order."""

    def update(self, state: S, summary: T) -> S:
        """The state after a batch."""

    def weights(self, state: S) -> Weights | None:
        """What the score lane evaluates, in raw feature space. None: nothing learned yet, or no such form exists."""


def to_arrays(value: Any, prefix: str = "") -> dict[str, NDArray[Any]]:
    """A dataclass of arrays, numbers, dataclasses and tuples of them as a flat dict of arrays, ready for .npz; exact."""
    flat: dict[str, NDArray[Any]] = {}
    for field in fields(value):
        name, item = prefix + field.name, getattr(value, field.name)
        if is_dataclass(item):
            flat |= to_arrays(item, name + ".")
        elif isinstance(item, tuple):
            flat[name] = np.asarray(len(item), dtype=np.int64)
            for i, part in enumerate(item):
                flat |= to_arrays(part, f"{name}.{i}.")
        elif isinstance(item, int):
            flat[name] = np.asarray(item, dtype=np.int64)
        else:
            flat[name] = np.array(item)
    return flat


def from_arrays(kind: type[T], arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> T:
    """The inverse of :func:`to_arrays`. ValueError names an entry that is missing."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is ClassVar:
            continue
        key = prefix + name
        if is_dataclass(hint):
            values[name] = from_arrays(hint, arrays, key + ".")  # type: ignore[arg-type]
            continue
        if key not in arrays:
            raise ValueError(
                f"{kind.__name__}: no entry {key!r} among {', '.join(sorted(arrays)) or 'no entries'}; was it saved by another learner?"
            )
        if get_origin(hint) is tuple:
            part = get_args(hint)[0]
            values[name] = tuple(from_arrays(part, arrays, f"{key}.{i}.") for i in range(int(arrays[key])))
        elif hint in (int, float):
            values[name] = hint(arrays[key])
        else:
            values[name] = np.array(arrays[key])
    return kind(**values)


def pack(value: Any) -> bytes:
    """A state or a summary as bytes in .npz form: how it travels between executor and driver."""
    buffer = io.BytesIO()
    np.savez(buffer, **to_arrays(value))  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(kind: type[T], data: bytes) -> T:
    """The inverse of :func:`pack`; never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return from_arrays(kind, dict(arrays))


def valid_rows(X: Array, y: Array, *, labels: Labels, classes: int = 0) -> tuple[NDArray[np.bool_], list[str]]:
    """Which rows a learner may see: mask (n,), and one reason for each refused row, in row order."""
    features = np.asarray((np.abs(X) <= LARGEST).all(axis=1))  # False for NaN, too
    number = np.abs(y) <= LARGEST
    match labels:
        case "binary":
            label, expected = number & ((y == 0) | (y == 1)), "0 or 1"
        case "classes":
            label, expected = number & (y == np.floor(y)) & (y >= 0) & (y < classes), f"a class number from 0 to {classes - 1}"
        case "count":
            label, expected = number & (y >= 0), "a finite number, 0 or more"
        case "number":
            label, expected = number, "a finite number"
        case "none":
            label, expected = np.ones(len(X), dtype=bool), ""
    mask = np.asarray(features & label)
    wrong_feature = f"features: a value is null, not finite or beyond {LARGEST:g}"
    return mask, [wrong_feature if not features[i] else f"label: expected {expected}" for i in np.flatnonzero(~mask)]
