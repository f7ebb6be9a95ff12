"""Every store keeps the contract; a store that does not is caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from streaming.checks import store as contract
from streaming.checks.predictions import expect, newest, prediction, write
from streaming.checks.store import STORE_CHECKS
from streaming.records.predictions import NEWEST
from streaming.stores import delta, memory, sqlite
from streaming.stores import postgres as pg
from streaming.stores import redis as rd
from streaming.stores.base import Store

KINDS = ("memory", "sqlite", "postgres", "redis", "delta")
Row = Mapping[str, Any]
Check = Callable[[Store, SparkSession], None]
_numbers = count()


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """An empty prepared store of a kind; its server is started only when asked for."""

    def make(kind: str) -> Store:
        number = next(_numbers)
        match kind:
            case "memory":
                store: Store = memory.MemoryStore()
            case "sqlite":
                store = sqlite.SqliteStore(str(tmp_path / "new folder" / "store.db"))
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


def _failures(make: Callable[[], Store], spark: SparkSession, checks: Iterable[Check] = STORE_CHECKS) -> set[Check]:
    failed = set()
    for check in checks:
        try:
            check(make(), spark)
        except AssertionError:
            failed.add(check)
    return failed


def _order(row: Row) -> list[Any]:
    return [row[name] for name in NEWEST]


def _offsets_as(kind: Callable[[Any], Any]) -> Callable[[Row, Row], bool]:
    def newer(new: Row, held: Row) -> bool:
        first, second = (
            [kind(value) if name == "source_offset" else value for name, value in zip(NEWEST, _order(row), strict=True)]
            for row in (new, held)
        )
        return first > second

    return newer


class Adds(memory.MemoryStore):
    """Rows are what they are because the last batch had them: an empty one empties the store, a second `prepare` too."""

    def prepare(self) -> None:
        self.rows.clear()

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        if not predictions.head(1):
            self.rows.clear()
        super().upsert(predictions, batch_id)


class OnePerKey(memory.MemoryStore):
    """One row for a key, whatever the model; keys are told apart without their case, and found by how they begin."""

    def _keep(self, row: dict[str, object]) -> None:
        name = (str(row["key"]).lower(), "")
        if name not in self.rows or self.newer(row, self.rows[name]):
            self.rows[name] = row

    def get(self, key: str) -> list[dict[str, object]]:
        return [dict(row) for (own, _), row in self.rows.items() if str(own).startswith(key.lower())]


class Rounds(memory.MemoryStore):
    """Numbers with six digits, times with milliseconds, and a null that leaves what is there."""

    def _keep(self, row: dict[str, Any]) -> None:
        held = self.rows.get((row["key"], row["model"]), {})
        row["prediction"] = float(f"{row['prediction']:.6g}")
        row["event_time"] = row["event_time"].replace(microsecond=row["event_time"].microsecond // 1_000 * 1_000)
        row["probability"] = held.get("probability") if row["probability"] is None else row["probability"]
        super()._keep(row)


class FirstPartition(memory.MemoryStore):
    """Whoever asks for one partition gets one."""

    def upsert(self, predictions: DataFrame, batch_id: int) -> None:
        first = predictions.sparkSession.createDataFrame(predictions.rdd.glom().first(), predictions.schema)
        super().upsert(first, batch_id)


#: How a store can be wrong -> the checks that must catch it.
_BROKEN: dict[str, tuple[Callable[[], Store], set[Check]]] = {
    "last write wins": (
        lambda: memory.MemoryStore(lambda new, held: True),
        {
            contract.check_newest_wins_in_any_order, contract.check_older_never_overwrites, contract.check_repeat_changes_nothing,
            contract.check_equal_order_keeps_the_first, contract.check_later_scoring_of_one_event_wins, contract.check_models_are_independent,
            contract.check_odd_keys, contract.check_times_are_exact, contract.check_large_offsets, contract.check_two_writers, contract.check_splits_and_orders,
        },
    ),
    "first write wins": (
        lambda: memory.MemoryStore(lambda new, held: False),
        {contract.check_newest_wins_in_any_order, contract.check_probability_may_become_null, contract.check_splits_and_orders},
    ),
    "event time alone": (
        lambda: memory.MemoryStore(lambda new, held: new["event_time"] > held["event_time"]),  # type: ignore[operator]
        {
            contract.check_older_never_overwrites, contract.check_later_scoring_of_one_event_wins, contract.check_large_offsets,
            contract.check_splits_and_orders,
        },
    ),
    "equal is newer": (lambda: memory.MemoryStore(lambda new, held: _order(new) >= _order(held)), {contract.check_equal_order_keeps_the_first}),
    "offsets as text": (lambda: memory.MemoryStore(_offsets_as(str)), {contract.check_large_offsets}),
    "offsets as doubles": (lambda: memory.MemoryStore(_offsets_as(float)), {contract.check_large_offsets}),
    "scored_at forgotten": (
        lambda: memory.MemoryStore(lambda new, held: _order(new)[:-1] > _order(held)[:-1]),
        {contract.check_older_never_overwrites, contract.check_later_scoring_of_one_event_wins},
    ),
    "batches replace": (Adds, {contract.check_empty_batch, contract.check_prepare_again}),
    "one row for a key": (OnePerKey, {contract.check_models_are_independent, contract.check_odd_keys, contract.check_unknown_key}),
    "rounded": (Rounds, {contract.check_doubles_are_exact, contract.check_times_are_exact, contract.check_probability_may_become_null}),
    "one partition": (FirstPartition, {contract.check_many_partitions}),
}  # fmt: skip


def test_every_check_has_a_store_that_fails_it() -> None:
    assert set(STORE_CHECKS) == {check for _, caught_by in _BROKEN.values() for check in caught_by}


@pytest.mark.parametrize("mistake", _BROKEN)
def test_a_broken_store_fails_the_contract(mistake: str, spark: SparkSession) -> None:
    make, caught_by = _BROKEN[mistake]
    assert _failures(make, spark, caught_by) == caught_by


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
