"""What waits for what: answers for their event (whose slices they belong to), and labels and answers for each other.

Pure: a ledger in, a ledger out. Each answer is counted once, however often it was written; each label is set beside each
model's answer once, whichever of the two came first; of several labels of one event the first stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]
Ints = NDArray[np.int64]

#: `id`: hash of the event's place; `pair`: hash of its key and time, by which a label finds it; `at`: arrival, ms since 1970.
EVENT: Final = [("id", "i8"), ("at", "i8")]
ANSWER: Final = [
    ("id", "i8"), ("pair", "i8"), ("at", "i8"), ("model", "i2"), ("prediction", "f8"), ("score", "f8"), ("placed", "?"), ("labelled", "?"),
]  # fmt: skip
LABEL: Final = [("pair", "i8"), ("at", "i8"), ("y", "f8"), ("used", "?")]


def codes(k: int) -> list[Any]:
    """The further field of events and answers: the number of the row's category in each of `k` fields that make slices."""
    return [("codes", "i2", (k,))]


@dataclass(frozen=True, eq=False)
class Ledger:
    """Events, answers and labels that something may still come for. `k`: fields that make slices."""

    events: Rows
    answers: Rows
    labels: Rows

    @classmethod
    def empty(cls, k: int) -> Ledger:
        """Nothing waits."""
        return cls(np.empty(0, EVENT + codes(k)), np.empty(0, ANSWER + codes(k)), np.empty(0, LABEL))

    def arrays(self) -> dict[str, Rows]:
        """The three tables by name."""
        return {"events": self.events, "answers": self.answers, "labels": self.labels}


@dataclass(frozen=True, eq=False)
class Taken:
    """What a batch brought about."""

    ledger: Ledger
    #: Answers to be counted now: their slices are known, or will never be (codes of -1).
    counted: Rows
    #: Answers that met their label, and beside each the label and when it arrived.
    pairs: Rows
    y: NDArray[np.float64]
    labelled_at: Ints
    #: Answers that had been there before; labels that nothing came for; answers that were forgotten because too many wait.
    repeated: int
    unmatched: int
    forgotten: int


def take(ledger: Ledger, events: Rows, answers: Rows, labels: Rows, *, now: int, horizon: int, waiting: int, slice_wait: int) -> Taken:
    """Bring one batch into the ledger.

    `now`: the newest arrival, ms; answers and labels wait `horizon` ms for each other, answers `slice_wait` ms for their
    event; at most `waiting` answers and as many labels wait.
    """
    k = ledger.answers.dtype["codes"].shape[0]
    fresh = _first(answers, _identity)
    fresh = fresh[~np.isin(_identity(fresh), _identity(ledger.answers))]
    known_events = np.concatenate([ledger.events, events]) if k else ledger.events
    placed, counted = _place(np.concatenate([ledger.answers, fresh]), known_events, k, oldest=now - slice_wait)
    first = _first(labels, lambda rows: rows["pair"])
    known_labels = np.concatenate([ledger.labels, first[~np.isin(first["pair"], ledger.labels["pair"])]])
    after, pairs, y, at, known_labels = _match(placed, known_labels)
    keep = (after["at"] >= now - horizon) | ~after["placed"]
    kept = after[keep]
    forgotten = max(0, len(kept) - waiting)
    gone = known_labels["at"] < now - horizon
    left = replace(
        ledger,
        events=known_events[known_events["at"] >= now - slice_wait],
        answers=kept[np.argsort(kept["at"], kind="stable")][forgotten:],
        labels=known_labels[~gone][-waiting:],
    )
    return Taken(left, counted, pairs, y, at, len(answers) - len(fresh), int((gone & ~known_labels["used"]).sum()), forgotten)


def _place(answers: Rows, events: Rows, k: int, *, oldest: int) -> tuple[Rows, Rows]:
    """All answers, those that can be counted marked; and the ones newly marked."""
    answers = answers.copy()
    waits = ~answers["placed"]
    if k and waits.any():
        at = lookup(answers["id"], events["id"])
        met = waits & (at >= 0)
        answers["codes"][waits] = -1
        answers["codes"][met] = events["codes"][at[met]]
        waits &= met | (answers["at"] < oldest)
    answers["placed"] |= waits
    return answers, answers[waits]


def _match(answers: Rows, labels: Rows) -> tuple[Rows, Rows, NDArray[np.float64], Ints, Rows]:
    """Answers and labels, those that have met marked; and the pairs newly made."""
    answers, labels = answers.copy(), labels.copy()
    at = lookup(answers["pair"], labels["pair"])
    met = answers["placed"] & ~answers["labelled"] & (at >= 0)
    answers["labelled"] |= met
    labels["used"][at[met]] = True
    beside = labels[at[met]]
    return answers, answers[met], beside["y"].copy(), beside["at"].copy(), labels


def lookup(keys: Ints, table: Ints) -> Ints:
    """For each key the place of its first appearance in `table`, -1 where it is not there."""
    if not len(table):
        return np.full(len(keys), -1, dtype=np.int64)
    order = np.argsort(table, kind="stable")
    at = np.minimum(np.searchsorted(table, keys, side="left", sorter=order), len(table) - 1)
    positions = order[at]
    return np.where(table[positions] == keys, positions, -1)


def _identity(answers: Rows) -> Ints:
    """One number for the event and the model of an answer: as good as the hash of the event's place."""
    step = np.int64(0x1E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        return np.asarray(answers["id"] + answers["model"].astype(np.int64) * step)


def _first(rows: Rows, of: Callable[[Rows], Ints]) -> Rows:
    """The rows in the order of arrival, of those alike the first."""
    ordered = rows[np.argsort(rows["at"], kind="stable")]
    _, first = np.unique(of(ordered), return_index=True)
    return ordered[np.sort(first)]


def restored(arrays: Mapping[str, Rows]) -> Ledger:
    """The inverse of :meth:`Ledger.arrays`."""
    return Ledger(arrays["events"], arrays["answers"], arrays["labels"])
