"""Every store keeps the contract; a store that does not is caught."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from streaming.checks import store as contract
from streaming.checks.predictions import expect, newest, prediction, write
from streaming.checks.store import STORE_CHECKS
from streaming.stores import delta, sqlite
from streaming.stores import postgres as pg
from streaming.stores import redis as rd
from streaming.stores.base import Store

KINDS = ("sqlite", "postgres", "redis", "delta")
_numbers = count()


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """An empty prepared store of a kind; its server is started only when asked for."""

    def make(kind: str) -> Store:
        number = next(_numbers)
        match kind:
            case "sqlite":
                store: Store = sqlite.SqliteStore(str(tmp_path / "new folder" / "store.db"))
            case "postgres":
                store = pg.PostgresStore(request.getfixturevalue("postgres").dsn, f"contract_{number}")
            case "redis":
                store = rd.RedisStore(request.getfixturevalue("redis").url, f"contract[{number}]*:")
            case _:
                session = request.getfixturevalue("spark")
                # Fifty tasks to read the log of a table of a few versions are most of what these tests would wait for.
                session.conf.set("spark.databricks.delta.snapshotPartitions", "2")
                store = delta.DeltaStore(str(tmp_path / "delta"), session)
        store.prepare()
        return store

    return make


def _cast(kind: str) -> Callable[[str], str]:
    """Compare the offsets as another type."""

    def breaking(query: str) -> str:
        head, _, condition = query.partition(" WHERE ")
        for side in ("excluded", '"predictions"'):
            condition = condition.replace(f"{side}.source_offset", f"CAST({side}.source_offset AS {kind})")
        return f"{head} WHERE {condition}"

    return breaking


def _anew(fresh: Callable[[str], Store], folder: Path) -> Callable[[], Store]:
    """An empty SQLite store at each call."""

    def make() -> Store:
        (folder / "new folder" / "store.db").unlink(missing_ok=True)
        return fresh("sqlite")

    return make


#: A Delta write takes seconds: the default run has the checks that matter most there, `make campaign` has them all.
_DELTA_EVERY_TIME = (
    contract.check_newest_wins_in_any_order,
    contract.check_repeat_changes_nothing,
    contract.check_probability_may_become_null,
)


def _every_check() -> list[Any]:
    return [
        pytest.param(
            kind,
            check,
            id=f"{kind}-{check.__name__}",
            marks=[pytest.mark.campaign] if kind == "delta" and check not in _DELTA_EVERY_TIME else [],
        )
        for kind in KINDS
        for check in STORE_CHECKS
    ]


@pytest.mark.parametrize(("kind", "check"), _every_check())
def test_store_keeps_the_contract(
    kind: str, check: Callable[[Store, SparkSession], None], fresh: Callable[[str], Store], spark: SparkSession
) -> None:
    check(fresh(kind), spark)


def _failures(store: Callable[[], Store], spark: SparkSession, checks: tuple[str, ...] = ()) -> set[str]:
    failed = set()
    for check in STORE_CHECKS:
        if checks and check.__name__ not in checks:
            continue
        try:
            check(store(), spark)
        except AssertionError:
            failed.add(check.__name__)
    return failed


#: How a store can get the comparison wrong -> the checks that must catch it.
_BROKEN: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "first write wins": (
        lambda query: query.partition(" DO UPDATE")[0] + " DO NOTHING",
        ("check_newest_wins_in_any_order", "check_probability_may_become_null", "check_splits_and_orders"),
    ),
    "event time alone": (
        lambda query: query.partition(" WHERE ")[0] + ' WHERE excluded.event_time > "predictions".event_time',
        ("check_older_never_overwrites", "check_later_scoring_of_one_event_wins", "check_large_offsets", "check_splits_and_orders"),
    ),
    "equal is newer": (lambda query: query.replace(") > (", ") >= ("), ("check_equal_order_keeps_the_first",)),
    "offsets as text": (_cast("TEXT"), ("check_large_offsets",)),
    "offsets as doubles": (_cast("REAL"), ("check_large_offsets",)),
    "scored_at forgotten": (
        lambda query: query.replace(", excluded.scored_at)", ")").replace(', "predictions".scored_at)', ")"),
        ("check_older_never_overwrites", "check_later_scoring_of_one_event_wins"),
    ),
}


def test_last_write_wins_fails_the_contract(
    fresh: Callable[[str], Store], spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The most likely mistake, through the whole contract: what it breaks is found, what it does not break is left alone."""
    right = sqlite._upsert
    monkeypatch.setattr(sqlite, "_upsert", lambda table: right(table).partition(" WHERE ")[0])
    assert _failures(_anew(fresh, tmp_path), spark) >= {
        "check_newest_wins_in_any_order",
        "check_older_never_overwrites",
        "check_repeat_changes_nothing",
        "check_equal_order_keeps_the_first",
        "check_later_scoring_of_one_event_wins",
        "check_models_are_independent",
        "check_odd_keys",
        "check_times_are_exact",
        "check_large_offsets",
        "check_two_writers",
        "check_splits_and_orders",
    }


@pytest.mark.parametrize("mistake", _BROKEN)
def test_a_wrong_comparison_fails_the_contract(
    mistake: str, fresh: Callable[[str], Store], spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    breaking, caught_by = _BROKEN[mistake]
    right = sqlite._upsert
    assert breaking(right("predictions")) != right("predictions")
    monkeypatch.setattr(sqlite, "_upsert", lambda table: breaking(right(table)))
    assert _failures(_anew(fresh, tmp_path), spark, caught_by) == set(caught_by)


_rows = st.builds(
    prediction, st.sampled_from(["a", "b"]), seconds=st.integers(0, 2), partition=st.integers(0, 1), offset=st.integers(0, 2), scored_ms=st.integers(0, 1),
    model=st.sampled_from(["champion", "trial"]),
)  # fmt: skip


@given(batches=st.lists(st.lists(_rows, max_size=8), max_size=5))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_is_a_function_of_the_set_of_rows(batches: list[list[dict[str, Any]]], spark: SparkSession) -> None:
    """However the rows are cut into batches, in whatever order and how often: the pure model says what stands."""
    with TemporaryDirectory() as folder:
        store = sqlite.SqliteStore(f"{folder}/store.db")
        store.prepare()
        write(store, spark, [list(newest(rows).values()) for rows in batches])
        expect(store, [row for rows in batches for row in rows])
