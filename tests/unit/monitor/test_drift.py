"""Quiet data stays quiet at any size; what is planted is found and named; every statistic is the one in its definition."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from streaming.monitor import drift
from streaming.monitor.baseline import AnsweredRows, Baseline, of_answers, of_table
from streaming.monitor.bins import column
from streaming.monitor.statistics import Statistics, of_rows, of_scores

COLUMNS = ["a", "b", "c", "d", "region"]
COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=12).map(lambda x: np.asarray(x, float))


def rows(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    nulls = rng.random(n) < 0.02
    return pa.table(
        {
            "a": rng.normal(size=n),
            "b": rng.exponential(size=n),
            "c": rng.choice(["u", "v", "w"], n, p=[0.7, 0.2, 0.1]),
            "d": pa.array(rng.integers(0, 5, n).astype(float), mask=nulls),
            "region": rng.choice(["north", "south", "west"], n),
        }
    )


def answered(table: pa.Table, seed: int) -> AnsweredRows:
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-3 * table["a"].to_numpy()))
    return AnsweredRows("m", "probability", (p > 0.5).astype(float), p, (rng.random(len(p)) < p).astype(float))


@pytest.fixture(scope="module")
def base() -> Baseline:
    table = rows(10_000, 1)
    return of_table(table, columns=COLUMNS, slices=["region"], source="test", answers=answered(table, 2))


def window(base: Baseline, table: pa.Table, said: AnsweredRows) -> Statistics:
    assert base.score is not None
    return (
        of_rows(table, base.layout)
        + of_scores(said.watched, base.score, base.layout.memberships(table))
        + of_answers(table, base.layout, said)
    )


def drifted(base: Baseline, table: pa.Table, said: AnsweredRows | None = None) -> list[drift.Finding]:
    return [f for f in drift.judge(window(base, table, said or answered(table, 4)), base) if f.drifted]


@pytest.mark.parametrize("n", [200, 2_000, 20_000])
def test_quiet_data_stays_quiet(base: Baseline, n: int) -> None:
    alarms = 0
    for seed in range(15):
        table = rows(n, 100 + seed)
        alarms += bool(drifted(base, table, answered(table, 300 + seed)))
    assert alarms == 0


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, from_pandas=True))


def test_half_a_sigma_names_the_column_and_the_prediction(base: Baseline) -> None:
    table = put(t := rows(2_000, 7), "a", t["a"].to_numpy() + 0.5)
    findings = drifted(base, table)
    assert {f.subject for f in findings if f.about == "feature" and not f.slice} == {"a"}
    assert any(f.about == "prediction" for f in findings)


def test_the_column_that_moves_the_prediction_carries_it(base: Baseline) -> None:
    table = put(t := rows(2_000, 7), "a", t["a"].to_numpy() + 0.5)
    table = put(table, "b", table["b"].to_numpy() * 3)  # drifts more, but the model does not look at it
    parts = drift.attribution(window(base, table, answered(table, 4)), base)
    assert next(iter(parts)) == "a"
    assert parts["a"] > 0.05
    assert drift.shares(parts)["a"] > 0.8
    assert sum(drift.shares(parts).values()) == pytest.approx(1.0)


def test_swapped_categories_more_nulls_a_new_category_and_another_unit(base: Baseline) -> None:
    t = rows(2_000, 8)
    c = np.asarray(t["c"].to_pylist())
    cases = {
        "c": (np.where(c == "u", "v", np.where(c == "v", "u", c)), {"psi", "js"}),
        "d": ([None if i % 16 == 0 else x for i, x in enumerate(t["d"].to_pylist())], {"nulls"}),
        "region": (np.where(np.arange(2_000) % 20 == 0, "mars", np.asarray(t["region"].to_pylist())), {"unseen"}),
        "b": (t["b"].to_numpy() * 100, {"out_of_range", "psi", "ks", "js"}),
    }
    for name, (values, statistics) in cases.items():
        findings = [f for f in drifted(base, put(t, name, values)) if not f.slice]
        assert {f.subject for f in findings} == {name}
        assert statistics <= {f.statistic for f in findings}


def test_a_slice_that_drifts_alone_is_named(base: Baseline) -> None:
    t = rows(2_000, 9)
    south = np.asarray(t["region"].to_pylist()) == "south"
    findings = drifted(base, put(t, "b", np.where(south, t["b"].to_numpy() + 1.0, t["b"].to_numpy())))
    (where,) = {f.slice for f in findings if f.slice}
    assert base.slice_value(where) == "region = south"


def test_labels_flipped_in_one_slice_are_found_there(base: Baseline) -> None:
    t = rows(2_000, 10)
    said = answered(t, 11)
    west = np.asarray(t["region"].to_pylist()) == "west"
    flipped = AnsweredRows("m", "probability", said.prediction, said.score, np.where(west, 1 - said.label, said.label))
    findings = [f for f in drifted(base, t, flipped) if f.slice]
    assert {base.slice_value(f.slice) for f in findings} == {"region = west"}
    assert {f.about for f in findings} == {"quality"}


def test_too_few_rows_are_not_judged(base: Baseline) -> None:
    assert drift.judge(of_rows(rows(drift.LEAST_ROWS - 1, 3), base.layout), base) == []
    assert drift.judge(Statistics(), base) == []


@settings(max_examples=40, deadline=None)
@given(COUNTS, COUNTS)
def test_a_difference_is_never_negative_and_none_with_itself(p: np.ndarray, q: np.ndarray) -> None:
    p, q = (np.resize(x, 6) + np.array([1, 0, 0, 0, 0, 0]) for x in (p, q))
    assert drift.psi(p, q) >= 0
    assert 0 <= drift.jensen_shannon(p, q) <= 1 + 1e-12
    assert 0 <= drift.homogeneous(*drift.pooled(p, q, ordered=True)) <= 1
    assert drift.psi(p, p) == pytest.approx(0)
    assert drift.jensen_shannon(p, p) == pytest.approx(0, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(COUNTS, COUNTS, st.booleans())
def test_pooling_loses_no_row(p: np.ndarray, q: np.ndarray, ordered: bool) -> None:
    p, q = (np.resize(x, 8) + 1.0 for x in (p, q))
    a, b = drift.pooled(p, q, ordered=ordered)
    assert (a.sum(), b.sum()) == (p.sum(), q.sum())


def test_the_formulas_are_those_of_scipy() -> None:
    p, q = np.array([400.0, 300, 250, 50]), np.array([100.0, 90, 110, 20])
    assert drift.jensen_shannon(p, q) == pytest.approx(distance.jensenshannon(p, q, base=2))
    assert drift.homogeneous(p, q) == pytest.approx(stats.chi2_contingency(np.array([p, q]), correction=False).pvalue)
    assert drift.more(3, 1000, 12, 1000) == pytest.approx(stats.fisher_exact([[12, 988], [3, 997]], alternative="greater").pvalue)


def by_cells(then: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """The KS distance and its chance, from the counts in the cells of the baseline `then`."""
    cells = column("x", pa.array(then))
    return drift.kolmogorov_smirnov(*(cells.count(pa.array(v), np.zeros(len(v), np.int64), 1)[0][: cells.bins] for v in (then, now)))


def test_ks_by_cells_is_that_of_the_rows_to_within_one_of_them() -> None:
    x, y = rows(10_000, 1)["a"].to_numpy(), rows(3_000, 5)["a"].to_numpy() + 0.3
    binned, chance = by_cells(x, y)
    exact = stats.ks_2samp(x, y)
    assert exact.statistic - 1 / 32 <= binned <= exact.statistic
    assert chance >= exact.pvalue * 0.5


#: Numbers as fields have them: a few values that many rows share, whole numbers, and what is between.
NUMBERS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 100.0]), st.integers(-3, 3), st.floats(-1, 1), st.integers(0, 2)).map(lambda t: [t[0], *t[1:3]][t[3]]),
    min_size=40,
    max_size=400,
).map(lambda x: np.asarray(x, float))  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(NUMBERS, NUMBERS)
def test_whatever_the_numbers_are_ks_is_too_small_by_one_thirty_second_at_most(then: np.ndarray, now: np.ndarray) -> None:
    exact = stats.ks_2samp(then, now, method="asymp").statistic
    binned, _ = by_cells(then, now)
    assert exact - (1 / 32 + 1 / len(then)) <= binned <= exact + 1e-12


@pytest.mark.parametrize("factor", [0.01, 100.0])
@pytest.mark.parametrize("then", [[0.0, 1.0], [5.0, 100.0], [0.0, *np.linspace(1, 60, 60)]])
def test_another_unit_is_seen_whatever_few_or_frequent_values_there_are(then: list[float], factor: float) -> None:
    rng = np.random.default_rng(3)
    table = pa.table({"x": rng.choice(then, 5_000, p=[0.5, *[0.5 / (len(then) - 1)] * (len(then) - 1)])})
    base = of_table(table, columns=["x"], source="test")
    moved = pa.table({"x": rng.permutation(table["x"].to_numpy())[:2_000] * factor})
    assert {"psi", "ks"} <= {f.statistic for f in drift.judge(of_rows(moved, base.layout), base) if f.drifted}
