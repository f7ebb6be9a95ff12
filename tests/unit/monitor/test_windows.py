"""Windows are a fold: whatever the split into batches, however the sources are out of step, and after any crash, they are the
sums of one pass over the same rows; nothing is lost and nothing is counted twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.monitor import ledger, quality
from streaming.monitor.baseline import AnsweredRows, Baseline, of_answers, of_table
from streaming.monitor.statistics import ALL, FEATURES, QUALITY, SCORE, Statistics, merged, of_rows, of_scores, split
from streaming.monitor.windows import BatchOutcome, Payload, State, Watch, Watched, fold, from_bytes, rows_of, to_bytes

RNG = np.random.default_rng(0)
N = 400
KNOWN = pa.table({"x": RNG.normal(size=N), "plan": RNG.choice(["a", "b", "c"], N)})
BASE: Baseline = of_table(
    KNOWN,
    columns=["x"],
    slices=["plan"],
    source="test",
    answers=AnsweredRows("m", "probability", (KNOWN["x"].to_numpy() > 0).astype(float), np.full(N, 0.4), np.zeros(N)),
)
assert BASE.score is not None
LEARNER = replace(BASE.score, name="learner")
WATCH = Watch(BASE, (Watched("m", "probability", BASE.score), Watched("learner", "probability", LEARNER)), window=100, least_rows=50)


@dataclass(frozen=True)
class Stream:
    """Rows of three topics, in the order in which they stand there. The answers of event i and its label come some time after it."""

    x: np.ndarray[Any, Any]
    plan: np.ndarray[Any, Any]
    event_at: np.ndarray[Any, Any]
    answers: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]

    def payload(self, events: range, answers: range, labels: range) -> Payload:
        """What a batch of these ranges brings."""
        e, a, y = (np.asarray(list(r), dtype=np.int64) for r in (events, answers, labels))
        table = self.table(e)
        starts = self.event_at[e] - self.event_at[e] % WATCH.window
        rows = np.zeros(len(e), ledger.EVENT + ledger.codes(1))
        rows["id"], rows["at"], rows["codes"][:, 0] = (
            e,
            self.event_at[e],
            BASE.layout.column("plan").codes(table.column("plan").combine_chunks()),
        )
        at = [self.event_at[e], self.answers["at"][a], self.labels["at"][y]]
        newest = max((int(t.max()) for t in at if len(t)), default=0)
        return Payload(split(table, starts, lambda part: of_rows(part, BASE.layout)), rows, self.answers[a], self.labels[y], newest)

    def table(self, e: np.ndarray[Any, Any]) -> pa.Table:
        return pa.table({"x": pa.array(self.x[e]), "plan": pa.array(self.plan[e], pa.string())})

    def one_pass(self) -> dict[int, Statistics]:
        """What every window must hold, without a fold, a ledger or a batch: each answer and each pair once."""
        every = np.arange(len(self.x))
        parts: dict[int, list[Statistics]] = {}

        def add(start: int, sums: Statistics) -> None:
            parts.setdefault(int(start), []).append(sums)

        for start, sums in split(
            self.table(every), self.event_at - self.event_at % WATCH.window, lambda t: of_rows(t, BASE.layout)
        ).items():
            add(start, sums)
        labelled: dict[int, tuple[float, int]] = {}
        for row in self.labels:
            labelled.setdefault(int(row["pair"]), (float(row["y"]), int(row["at"])))
        seen = set()
        for row in self.answers:
            if (row["id"], row["model"]) in seen:
                continue
            seen.add((row["id"], row["model"]))
            i, model = int(row["id"]), WATCH.models[row["model"]]
            table = self.table(np.asarray([i]))
            add(row["at"] - row["at"] % 100, of_scores(pa.array([row["score"]]), model.cells, BASE.layout.memberships(table)))
            if int(row["pair"]) in labelled:
                y, at = labelled[int(row["pair"])]
                said = AnsweredRows(model.name, model.task, row["prediction"].reshape(1), row["score"].reshape(1), np.asarray([y]))
                add(at - at % 100, of_answers(table, BASE.layout, said))
        return {start: merged(sums) for start, sums in parts.items()}


def stream(n: int, seed: int, *, repeats: bool = True) -> Stream:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 900, n))
    answers = np.zeros(2 * n, ledger.ANSWER + ledger.codes(1))
    answers["id"] = np.repeat(np.arange(n), 2)
    answers["pair"] = answers["id"] + 10_000
    answers["at"] = np.repeat(at, 2) + rng.integers(0, 30, 2 * n)
    answers["model"] = np.tile([0, 1], n)
    answers["score"] = rng.random(2 * n).round(2)
    answers["prediction"] = answers["score"] > 0.5
    if repeats and n:  # a crash of the score lane: some answers are written again, later
        again = answers[rng.integers(0, 2 * n, n // 3)]
        again["at"] += 40
        answers = np.concatenate([answers, again])
    answers = answers[np.argsort(answers["at"], kind="stable")]
    who = np.flatnonzero(rng.random(n) < 0.7)
    labels = np.zeros(len(who), ledger.LABEL)
    labels["pair"], labels["at"], labels["y"] = (
        who + 10_000,
        at[who] + rng.integers(-20, 200, len(who)).clip(-at[who]),
        rng.integers(0, 2, len(who)),
    )
    twice = labels[: len(who) // 4].copy()  # a corrected label: the first stands
    twice["y"], twice["at"] = 1 - twice["y"], twice["at"] + 300
    labels = np.concatenate([labels, twice])
    return Stream(
        rng.normal(size=n).round(1), rng.choice(["a", "b", "c", "new"], n), at, answers, labels[np.argsort(labels["at"], kind="stable")]
    )


class Job:
    """The lane without Spark: states by number and published windows, and a crash between any two steps."""

    def __init__(self, watch: Watch = WATCH) -> None:
        self.watch, self.states, self.files = watch, {-1: to_bytes(State.empty(watch))}, {}
        self.published: list[int] = []

    def recall(self, start: int, n: int) -> Statistics | None:
        made = [batch for s, batch in self.files if s == start and batch < n]
        return self.files[start, max(made)] if made else None

    def batch(self, n: int, payload: Payload, *, crash: str = "") -> BatchOutcome | None:
        if n in self.states:
            return None
        folded = fold(from_bytes(self.states[n - 1]), payload, self.watch, recall=lambda start: self.recall(start, n))
        if crash == "folded":
            return None
        for i, window in enumerate(folded.published):
            if crash == "writing" and i == 1:
                return None
            self.files[window.start, n] = window.statistics
        if crash == "written":
            return None
        self.states[n] = to_bytes(folded.state)
        self.published += [w.start for w in folded.published]
        return folded

    def windows(self) -> dict[int, Statistics]:
        """The newest of each: what is published, and what still goes on."""
        newest = {start: self.recall(start, 1 << 60) for start, _ in self.files}
        state = from_bytes(self.states[max(self.states)])
        return newest | {start: w.statistics for start, w in state.windows.items()}


def cuts(n: int, at: Sequence[float]) -> list[range]:
    edges = [0, *sorted(math.floor(share * n) for share in at), n]
    return [range(a, b) for a, b in itertools.pairwise(edges)]


SHARES = st.lists(st.floats(0, 1), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(0, 1000),
    SHARES,
    SHARES,
    SHARES,
    st.lists(st.sampled_from(["", "folded", "writing", "written"]), min_size=6, max_size=6),
)
def test_any_split_with_any_crash_equals_one_pass(
    n: int, seed: int, events: list[float], answers: list[float], labels: list[float], crashes: list[str]
) -> None:
    rows = stream(n, seed)
    job = Job()
    ranges = zip(cuts(n, events), cuts(len(rows.answers), answers), cuts(len(rows.labels), labels), strict=True)
    for number, (e, a, y) in enumerate(ranges):
        payload = rows.payload(e, a, y)
        if crashes[number]:
            job.batch(number, payload, crash=crashes[number])
        job.batch(number, payload)
        job.batch(number, payload)  # and Spark repeats a batch that was whole already
    same({start: s for start, s in job.windows().items() if s.values}, rows.one_pass())


def same(sums: dict[int, Statistics], expected: dict[int, Statistics]) -> None:
    """Counts are equal; sums of losses, which are added in another order, to 1e-12 of themselves."""
    assert sums.keys() == expected.keys()
    for start in expected:
        assert sums[start].values.keys() == expected[start].values.keys()
        for key, vector in expected[start].values.items():
            loose = key[1].startswith(QUALITY)
            np.testing.assert_allclose(sums[start].values[key], vector, rtol=1e-12 if loose else 0, atol=0)


def test_a_window_that_left_the_state_is_added_to_from_its_file() -> None:
    rows = stream(120, 5, repeats=False)
    job = Job(replace(WATCH, least_rows=1))
    first = rows.payload(range(100), range(0), range(0))
    job.batch(0, first)
    some = next(iter(first.counts.values()))
    job.batch(1, replace(rows.payload(range(0), range(0), range(0)), counts=dict.fromkeys(range(5_000, 9_000, 100), some), newest=9_000))
    assert 0 not in from_bytes(job.states[1]).windows
    assert from_bytes(job.states[1]).forgotten_to >= 900
    job.batch(2, rows.payload(range(100, 120), range(0), range(0)), crash="written")
    job.batch(2, rows.payload(range(100, 120), range(0), range(0)))
    expected = {start: s.get(ALL, FEATURES) for start, s in rows.one_pass().items() if s.get(ALL, FEATURES) is not None}
    counted = {start: s.get(ALL, FEATURES) for start, s in job.windows().items() if start < 1000 and s.get(ALL, FEATURES) is not None}
    assert expected.keys() == counted.keys()
    assert all(np.array_equal(counted[start], expected[start]) for start in expected)


def test_every_window_is_published_once_it_is_over_and_again_only_when_it_grew() -> None:
    rows = stream(150, 9, repeats=False)
    job = Job()
    for number, e in enumerate(cuts(150, [i / 10 for i in range(1, 10)])):
        job.batch(number, rows.payload(e, range(0), range(0)))
    whole = {start for start, s in rows.one_pass().items() if s.get(ALL, FEATURES) is not None}
    over = {start for start in whole if start + 110 <= int(rows.event_at.max())}
    assert set(job.published) == over
    assert len(job.published) < 2 * len(over)


def test_few_rows_are_judged_together_with_the_windows_before_and_none_twice() -> None:
    rows = stream(150, 3, repeats=False)
    job, judged = Job(replace(WATCH, least_rows=50)), []
    for number, e in enumerate(cuts(150, [i / 20 for i in range(1, 20)])):
        folded = job.batch(number, rows.payload(e, range(0), range(0)))
        assert folded is not None
        judged += [(w.since, w.start, rows_of(w.judged_by, BASE.layout)) for w in folded.published if w.judged and not w.revised]
    assert len(judged) >= 2
    assert all(n >= 50 for _, _, n in judged)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(judged)), judged


def test_a_row_from_1970_neither_joins_the_windows_of_today_nor_is_lost() -> None:
    rows = stream(150, 3, repeats=False)
    rows = replace(rows, event_at=rows.event_at + 1_000_000)
    job = Job()
    job.batch(0, rows.payload(range(150), range(0), range(0)))
    old = replace(rows, event_at=np.full(150, 7))
    folded = job.batch(1, old.payload(range(1), range(0), range(0)))
    assert folded is not None
    assert [(w.start, w.since, w.judged) for w in folded.published] == [(0, 0, False)]
    assert rows_of(job.windows()[0], BASE.layout) == 1


def test_an_answer_whose_event_never_comes_is_counted_without_slices() -> None:
    rows = stream(20, 1, repeats=False)
    job = Job()
    job.batch(0, rows.payload(range(0), range(40), range(0)))
    assert all(s.get(ALL, f"{SCORE}m") is None for s in job.windows().values())
    empty = rows.payload(range(0), range(0), range(0))
    job.batch(1, replace(empty, newest=200_000))
    counted = merged(job.windows().values())
    vector = counted.get(ALL, f"{SCORE}m")
    assert vector is not None
    assert vector[:-3].sum() == 20
    assert [s for s in counted.slices() if s] == []


def test_too_many_that_wait_are_forgotten_the_oldest_first_and_said() -> None:
    rows = stream(100, 2, repeats=False)
    job = Job(replace(WATCH, waiting=50))
    folded = job.batch(0, rows.payload(range(100), range(200), range(0)))
    assert folded is not None
    assert folded.taken.forgotten == 150
    assert len(folded.state.ledger.answers) == 50
    assert folded.state.ledger.answers["at"].min() >= np.sort(rows.answers["at"])[149]


def test_a_label_that_nothing_comes_for_is_said_and_not_kept() -> None:
    rows = stream(0, 2)
    label = np.array([(1, 5, 1.0, False)], ledger.LABEL)
    job = Job(replace(WATCH, horizon=1000))
    job.batch(0, Payload({}, rows.payload(range(0), range(0), range(0)).events, rows.answers[:0], label, 5))
    folded = job.batch(1, Payload({}, rows.payload(range(0), range(0), range(0)).events, rows.answers[:0], label[:0], 5000))
    assert folded is not None
    assert (folded.taken.unmatched, len(folded.state.ledger.labels)) == (1, 0)


@given(st.lists(st.integers(0, 5), max_size=20), st.lists(st.integers(0, 5), max_size=20))
def test_lookup_is_the_first_place_or_none(keys: list[int], table: list[int]) -> None:
    places = ledger.lookup(np.asarray(keys, np.int64), np.asarray(table, np.int64))
    assert places.tolist() == [table.index(k) if k in table else -1 for k in keys]


def test_a_state_of_other_cells_has_another_identity() -> None:
    assert WATCH.identity == replace(WATCH, least_rows=77).identity
    assert WATCH.identity != replace(WATCH, window=200).identity
    assert WATCH.identity != replace(WATCH, models=WATCH.models[:1]).identity
    other = of_table(KNOWN.slice(9), columns=["x"], slices=["plan"], source="test")
    assert WATCH.identity != replace(WATCH, baseline=other).identity


def test_a_quality_vector_of_the_fold_is_that_of_the_pairs() -> None:
    rows = stream(150, 11, repeats=False)
    job = Job()
    job.batch(0, rows.payload(range(150), range(300), range(len(rows.labels))))
    total = merged(job.windows().values()).get(ALL, f"{QUALITY}learner")
    assert total is not None
    assert total[quality.N] == len(np.unique(rows.labels["pair"]))


@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_a_broken_state_is_never_taken_for_an_empty_one(data: bytes) -> None:
    with pytest.raises((ValueError, EOFError, OSError)):
        from_bytes(data)
