"""Statistics add up: whatever the split, order and grouping of the rows, the merged parts equal one pass over all of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.errors import ConfigError
from streaming.monitor import quality
from streaming.monitor.baseline import AnsweredRows, Baseline, of_answers, of_table
from streaming.monitor.bins import ABOVE, BELOW, BINS, NULL, Column, column
from streaming.monitor.statistics import FEATURES, Layout, Statistics, merged, of_rows, of_scores, split

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 5).map(float))
WORDS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "never before", "", "a "]))
ROWS = st.lists(st.tuples(NUMBERS, WORDS, st.sampled_from(["x", "y", None, "z"])), max_size=60)

KNOWN = pa.table({"n": [1.0, 2.0, 3.0, 4.5, None], "w": ["a", "a", "b", "c", None], "s": ["x", "y", "x", "x", "y"]})
LAYOUT = of_table(KNOWN, columns=["n", "w", "s"], slices=["s"], source="test").layout


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.table([pa.array(c, t) for c, t in zip(columns, (pa.float64(), pa.string(), pa.string()), strict=True)], names=["n", "w", "s"])


@settings(max_examples=40, deadline=None)
@given(ROWS, st.data())
def test_any_split_in_any_order_merged_equals_one_pass(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    whole = of_rows(table(rows), LAYOUT)
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    assert merged(of_rows(table(part), LAYOUT) for part in parts) == whole


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_every_row_is_in_exactly_one_cell_of_each_column(rows: list[tuple[Any, ...]]) -> None:
    counts = of_rows(table(rows), LAYOUT).get("", FEATURES)
    if not rows:
        assert counts is None
        return
    assert counts is not None
    for name, cells in LAYOUT.parts(counts).items():
        assert cells[: LAYOUT.column(name).bins + 1].sum() == len(rows)


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_json_and_arrow_bring_the_same_statistics_back(rows: list[tuple[Any, ...]]) -> None:
    counted = of_rows(table(rows), LAYOUT)
    assert Statistics.from_json(json.loads(json.dumps(counted.to_json()))) == counted
    assert Statistics.from_json(counted.to_arrow().to_pylist()) == counted


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_windows_of_one_batch_are_kept_apart(rows: list[tuple[Any, ...]], windows: list[int]) -> None:
    by = np.asarray(windows[: len(rows)], dtype=np.int64)
    by_window = split(table(rows), by, lambda part: of_rows(part, LAYOUT))
    assert merged(by_window.values()) == of_rows(table(rows), LAYOUT)
    for window, statistics in by_window.items():
        assert statistics == of_rows(table([row for row, w in zip(rows, by, strict=True) if w == window]), LAYOUT)


def cells(of: Column, values: pa.Array) -> list[float]:
    return of.count(values, np.zeros(len(values), np.int64), 1)[0].tolist()


def test_a_number_is_counted_in_its_bin_and_what_the_baseline_never_saw_twice() -> None:
    x = column("x", pa.array([1.0, 2.0, 2.0, 3.0]))
    # Below, 1, between, 2, between, 3, above: each of few values has a cell of its own.
    counts = cells(x, pa.array([1.0, 1.01, 1.99, 2.0, 3.0, -7.0, 99.0, math.inf, math.nan, None]))
    assert counts[: x.bins] == [1, 1, 2, 1, 0, 1, 2]
    assert [counts[x.bins + k] for k in (NULL, BELOW, ABOVE)] == [2, 1, 2]


def test_a_category_nobody_has_seen_has_a_cell_of_its_own_and_null_is_none() -> None:
    w = column("w", pa.array(["b", "a", "a"]))
    assert w.categories == ("a", "b")
    assert cells(w, pa.array(["a", "b", "b", "new", None])) == [1, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.float32(), pa.bool_(), pa.decimal128(5, 2)])
def test_every_kind_of_number_is_one(kind: pa.DataType) -> None:
    values = pa.array([True, False, None]) if kind == pa.bool_() else pa.array([1, 0, None], pa.int8()).cast(kind)
    x = column("x", values)
    assert x.kind == "number"
    assert cells(x, values)[: x.bins + 1] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("values", [pa.array([], pa.float64()), pa.array([None, None], pa.float64()), pa.array([math.nan])])
def test_a_column_of_which_the_baseline_knows_nothing_still_counts(values: pa.Array) -> None:
    assert cells(column("x", values), pa.array([1.0, None]))[:2] == [1, 1]


def test_a_column_that_is_missing_now_is_all_null() -> None:
    counts = LAYOUT.parts(of_rows(KNOWN.drop_columns(["n"]), LAYOUT).get("", FEATURES))  # type: ignore[arg-type]
    assert counts["n"][LAYOUT.column("n").bins + NULL] == KNOWN.num_rows


@settings(max_examples=60, deadline=None)
@given(st.integers(100, 2000), st.floats(0.3, 3.0), st.lists(st.floats(0.0, 0.4), max_size=3))
def test_no_bin_of_several_values_holds_more_than_its_share(n: int, power: float, atoms: list[float]) -> None:
    x = np.arange(n) ** power
    for i, share in enumerate(atoms):
        x[: int(share * n)] = x[i * n // 3]
    described = column("x", pa.array(x))
    borders = np.array([-np.inf, *described.edges, np.inf])
    wide = np.nextafter(borders[:-1], np.inf) < borders[1:]
    assert len(described.edges) < 3 * BINS
    assert max(np.array(cells(described, pa.array(x))[: described.bins])[wide]) <= n / BINS + 1


def test_a_slice_is_named_by_its_number_and_only_the_baseline_knows_the_value() -> None:
    counted = of_rows(KNOWN, LAYOUT)
    assert counted.slices() == ["", "s#0", "s#1"]
    base = Baseline("test", 5, LAYOUT, counted)
    assert base.slice_value("s#1") == "s = y"
    assert base.slice_value("") == "all"


def test_a_slice_must_be_a_text_column() -> None:
    with pytest.raises(ConfigError, match=r"monitor\.slices: n is no text column"):
        of_table(KNOWN, columns=["n"], slices=["n"], source="test")


def answers(n: int, seed: int = 1) -> tuple[pa.Table, AnsweredRows]:
    rng = np.random.default_rng(seed)
    x, s = rng.normal(size=n), rng.choice(["x", "y"], n)
    p = 1 / (1 + np.exp(-x))
    y = (rng.random(n) < p).astype(float)
    return pa.table({"n": x, "s": s}), AnsweredRows("m", "probability", (p > 0.5).astype(float), p, y)


def test_a_baseline_survives_its_json_whole() -> None:
    rows, said = answers(500)
    made = of_table(rows, columns=["n", "s"], slices=["s"], source="test", answers=said)
    back = Baseline.from_json(json.loads(json.dumps(made.to_json())), where="x")
    assert back.statistics == made.statistics
    assert back.layout == made.layout
    assert (back.rows, back.task, back.score) == (made.rows, made.task, made.score)
    assert all(np.allclose(back.effects[k], v) for k, v in made.effects.items())


@pytest.mark.parametrize("broken", [{}, {"format": 2}, {"format": 1}, {"format": 1, "source": "x", "rows": "many"}])
def test_what_is_no_baseline_is_refused_in_words(broken: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="streaming baseline CONFIG"):
        Baseline.from_json(broken, where="state/x/baseline.json")


def test_scores_and_quality_add_up_too() -> None:
    rows, said = answers(400)
    made = of_table(rows, columns=["n"], slices=["s"], source="test", answers=said)
    assert made.score is not None
    halves = []
    for part in (slice(0, 150), slice(150, None)):
        piece = AnsweredRows("m", "probability", said.prediction[part], said.score[part], said.label[part])
        some = rows.slice(0, 150) if part.start == 0 else rows.slice(150)
        halves.append(of_scores(piece.watched, made.score, made.layout.memberships(some)) + of_answers(some, made.layout, piece))
    both, whole = merged(halves), made.statistics
    for key in both.values:
        assert np.allclose(both.values[key], whole.values[key], rtol=1e-12)
    assert both.get("", "quality:m")[quality.N] == 400  # type: ignore[index]


def test_layouts_cut_a_vector_where_they_joined_it() -> None:
    parts = LAYOUT.parts(np.arange(LAYOUT.width, dtype=float))
    assert np.concatenate(list(parts.values())).tolist() == list(range(LAYOUT.width))
    assert isinstance(LAYOUT, Layout)
