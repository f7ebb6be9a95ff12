"""The windows of the monitor: a fold. State and the rows of batch n in, the next state and the windows to be published out.

A window is the sum of what arrived in it, so no split of the rows into batches changes it. It is published when it is
over, and again, whole, when rows of it come late: its newest revision stands. A revision's number is that of its batch.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from streaming.monitor import ledger as waiting_rooms
from streaming.monitor import quality
from streaming.monitor.baseline import Baseline
from streaming.monitor.bins import Column, texts_of
from streaming.monitor.ledger import Ledger, Rows
from streaming.monitor.quality import Task
from streaming.monitor.statistics import ALL, FEATURES, QUALITY, VERSION, Layout, Statistics, merged, of_scores

#: Windows that are over stay in the state so long; what comes later is added to the published one.
_KEPT: Final = 12
#: A window is over when something arrived this much of its length after its end: partitions are not read in step.
_GRACE: Final = 0.1
#: No more windows than this are judged together, however few rows they have.
_LONGEST: Final = 288


@dataclass(frozen=True)
class Watched:
    """A model whose answers are counted, and the cells in which they are."""

    name: str
    task: Task
    cells: Column


@dataclass(frozen=True, eq=False)
class Watch:
    """What the fold has to know, and what does not change while the lane runs. Times in milliseconds."""

    baseline: Baseline
    models: tuple[Watched, ...]
    window: int
    least_rows: int = 200
    #: How long answers and labels wait for each other.
    horizon: int = 3_600_000
    waiting: int = 200_000

    @property
    def layout(self) -> Layout:
        """The columns and the slices."""
        return self.baseline.layout

    @cached_property
    def identity(self) -> str:
        """Tells states apart whose counts cannot be added: other cells, other models, other windows."""
        parts = {"models": [(m.name, m.task, m.cells.to_json()) for m in self.models], "window": self.window}
        said = self.baseline.to_json()
        return hashlib.sha256(json.dumps([parts, said["columns"], said["slices"]], sort_keys=True).encode()).hexdigest()

    def start_of(self, at: int) -> int:
        """The start of the window in which something arrived."""
        return at - at % self.window


@dataclass(frozen=True, eq=False)
class Window:
    """What is known of one window so far."""

    statistics: Statistics
    #: The first of the windows it is judged together with; itself when it has rows enough. None while it goes on.
    since: int | None = None
    #: It has, with those before it, rows enough to be judged.
    judged: bool = False


@dataclass(frozen=True, eq=False)
class State:
    """All that the lane must remember from one batch to the next."""

    identity: str
    windows: Mapping[int, Window]
    ledger: Ledger
    #: The newest arrival, ms since 1970.
    newest: int = 0
    #: Windows up to this start are no longer in the state.
    forgotten_to: int = -1
    #: The first window that waits for more rows to be judged with.
    waiting_since: int | None = None
    #: What others keep beside it, by name: plain values.
    beside: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, watch: Watch) -> State:
        """Before the first batch."""
        return cls(watch.identity, {}, Ledger.empty(len(watch.layout.slices)))


@dataclass(frozen=True, eq=False)
class Payload:
    """What a batch brings: sums by window, and the rows that have to be joined."""

    counts: Mapping[int, Statistics]
    events: Rows
    answers: Rows
    labels: Rows
    #: The newest arrival; 0 in an empty batch.
    newest: int


@dataclass(frozen=True, eq=False)
class Published:
    """A window as it is to be published: its own sums, and those that it is judged by."""

    start: int
    statistics: Statistics
    #: Summed over all windows from `since` on.
    judged_by: Statistics
    since: int
    judged: bool
    #: It has been published before.
    revised: bool


@dataclass(frozen=True, eq=False)
class BatchOutcome:
    """The outcome of a batch."""

    state: State
    published: tuple[Published, ...]
    taken: waiting_rooms.Taken


def fold(state: State, payload: Payload, watch: Watch, *, recall: Callable[[int], Statistics | None]) -> BatchOutcome:
    """Carry a batch into the state. `recall`: the published sums of a window that the state no longer has; None: none were."""
    newest = max(state.newest, payload.newest)
    slice_wait = 2 * watch.window + 60_000
    taken = waiting_rooms.take(
        state.ledger, payload.events, payload.answers, payload.labels,
        now=newest, horizon=watch.horizon, waiting=watch.waiting, slice_wait=slice_wait,
    )  # fmt: skip
    added = _added(payload, taken, watch)
    before = dict(state.windows)
    for start in sorted(set(added) - set(before)):
        old = recall(start) if start <= state.forgotten_to else None
        before[start] = Window(Statistics()) if old is None else Window(old, start, judged=True)
    grown = {start: replace(w, statistics=w.statistics + added.get(start, Statistics())) for start, w in before.items()}
    closed, waiting_since = _close(grown, state.waiting_since, newest, watch)
    dirty = [start for start, w in sorted(closed.items()) if w.since is not None and (start in added or before[start].since is None)]
    published = tuple(_published(start, closed, revised=before[start].since is not None) for start in dirty)
    kept, forgotten_to = _kept(closed, waiting_since, state.forgotten_to)
    after = replace(
        state, windows=kept, ledger=taken.ledger, newest=newest, forgotten_to=forgotten_to, waiting_since=waiting_since
    )  # fmt: skip
    return BatchOutcome(after, published, taken)


def _added(payload: Payload, taken: waiting_rooms.Taken, watch: Watch) -> dict[int, Statistics]:
    parts: list[tuple[int, Statistics]] = list(payload.counts.items())
    for number, model in enumerate(watch.models):
        parts += _scores(taken.counted[taken.counted["model"] == number], model, watch)
        own = taken.pairs["model"] == number
        parts += _quality(taken.pairs[own], taken.y[own], taken.labelled_at[own], model, watch)
    by_window: dict[int, list[Statistics]] = {}
    for start, statistics in parts:
        by_window.setdefault(start, []).append(statistics)
    return {start: merged(sums) for start, sums in by_window.items()}


def _scores(answers: Rows, model: Watched, watch: Watch) -> list[tuple[int, Statistics]]:
    starts = answers["at"] - answers["at"] % watch.window
    by_window = []
    for start in np.unique(starts):
        rows = answers[starts == start]
        values = texts_of(rows["prediction"]) if model.task == "class" else rows["score"]
        by_window.append((int(start), of_scores(_array(values), model.cells, memberships(watch.layout, rows["codes"]))))
    return by_window


def _quality(answers: Rows, y: Any, at: Any, model: Watched, watch: Watch) -> list[tuple[int, Statistics]]:
    starts = at - at % watch.window
    return [(int(s), quality_of(answers[starts == s], y[starts == s], model, watch.layout)) for s in np.unique(starts)]


def quality_of(answers: Rows, y: Any, model: Watched, layout: Layout) -> Statistics:
    """The quality vectors of answers beside their labels, of all and by slice."""
    vectors = {}
    for names, groups in memberships(layout, answers["codes"]):
        for i in np.unique(groups[groups >= 0]):
            own = groups == i
            vector = quality.of_pairs(answers["prediction"][own], answers["score"][own], y[own], task=model.task)
            vectors[names[i], f"{QUALITY}{model.name}"] = vector
    return Statistics(vectors)


def memberships(layout: Layout, codes: Any) -> list[tuple[list[str], Any]]:
    """As :meth:`Layout.memberships`, of rows whose categories are known by number; `codes` (n, number of slice fields)."""
    every = ([ALL], np.zeros(len(codes), dtype=np.int64))
    fields = enumerate(layout.slices)
    return [every, *((layout.slices_of(name), codes[:, i].astype(np.int64)) for i, name in fields)]


def _array(values: Any) -> Any:
    import pyarrow as pa

    return pa.array(values, from_pandas=True)


def rows_of(statistics: Statistics, layout: Layout, slice_: str = ALL) -> int:
    """How many events are in the sums."""
    vector = statistics.get(slice_, FEATURES)
    if vector is None:
        return 0
    first = layout.columns[0]
    return int(vector[: first.bins + 1].sum())


def _close(windows: Mapping[int, Window], waiting_since: int | None, newest: int, watch: Watch) -> tuple[dict[int, Window], int | None]:
    """The windows, those that are over marked, in their order."""
    closed = dict(windows)
    newest_over = max((start for start, w in windows.items() if w.since is not None), default=-1)
    for start in sorted(windows):
        if windows[start].since is not None or newest < start + watch.window * (1 + _GRACE):
            continue
        # One that comes after its successors have been judged stands alone: they are not judged a second time with it.
        late = start < newest_over
        since = start if late or waiting_since is None else waiting_since
        judged = rows_of(_span(since, start, closed), watch.layout) >= watch.least_rows
        closed[start] = replace(windows[start], since=since, judged=judged)
        if not late:
            waiting_since = None if judged or start - since > _LONGEST * watch.window else since
    return closed, waiting_since


def _span(since: int, start: int, windows: Mapping[int, Window]) -> Statistics:
    return merged(windows[s].statistics for s in sorted(windows) if since <= s <= start)


def _published(start: int, windows: Mapping[int, Window], *, revised: bool) -> Published:
    window = windows[start]
    assert window.since is not None
    return Published(start, window.statistics, _span(window.since, start, windows), window.since, window.judged, revised)


def _kept(windows: Mapping[int, Window], waiting_since: int | None, forgotten_to: int) -> tuple[dict[int, Window], int]:
    """What stays: windows that go on, the newest that are over, and those that wait to be judged with a later one."""
    over = sorted(start for start, w in windows.items() if w.since is not None)
    gone = [start for start in over[:-_KEPT] if waiting_since is None or start < waiting_since]
    kept = {start: w for start, w in windows.items() if start not in gone}
    return kept, max([forgotten_to, *gone])


def to_bytes(state: State) -> bytes:
    """The state as .npz: arrays only, never pickled."""
    keys, vectors, heads = [], [], []
    for start, window in sorted(state.windows.items()):
        heads.append([start, window.since, window.judged])
        for (slice_, subject), vector in window.statistics.values.items():
            keys.append([start, slice_, subject, len(vector)])
            vectors.append(vector)
    head = {
        "identity": state.identity, "newest": state.newest, "forgotten_to": state.forgotten_to,
        "waiting_since": state.waiting_since, "beside": dict(state.beside), "windows": heads, "keys": keys,
    }  # fmt: skip
    buffer = io.BytesIO()
    flat = np.concatenate(vectors) if vectors else np.empty(0)
    arrays = {f"l.{name}": rows for name, rows in state.ledger.arrays().items()}
    np.savez(buffer, head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8), counts=flat, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(data: bytes) -> State:
    """The inverse of :func:`to_bytes`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        head = json.loads(arrays["head"].tobytes())
        rooms = waiting_rooms.restored({name: arrays[f"l.{name}"] for name in ("events", "answers", "labels")})
        counts = arrays["counts"]
    cut = np.split(counts, np.cumsum([key[3] for key in head["keys"]])[:-1]) if head["keys"] else []
    values: dict[int, dict[tuple[str, str], Any]] = {}
    for (start, slice_, subject, _), vector in zip(head["keys"], cut, strict=True):
        values.setdefault(start, {})[slice_, subject] = vector
    windows = {start: Window(Statistics(values.get(start, {})), since, judged) for start, since, judged in head["windows"]}
    return State(
        head["identity"], windows, rooms, head["newest"], head["forgotten_to"], head["waiting_since"], head["beside"]
    )  # fmt: skip


def versions_of(statistics: Statistics) -> dict[str, list[str]]:
    """Model -> the versions that answered, the one with the most answers first."""
    answered: dict[str, list[tuple[float, str]]] = {}
    for (_, subject), vector in statistics.values.items():
        if subject.startswith(VERSION):
            model, _, version = subject.removeprefix(VERSION).partition(":")
            answered.setdefault(model, []).append((-float(vector[0]), version))
    return {model: [version for _, version in sorted(counted)] for model, counted in answered.items()}
