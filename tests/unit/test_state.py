"""States are found by number, written once, thinned to a bound, and never replaced by something newer or by nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streaming.errors import StateError
from streaming.learning.commands import Command
from streaming.learning.state_log import KEPT_WHOLE, Meta, Snapshot, StateLog, keeps
from streaming.runtime.files import LocalFolder

START = Snapshot(Meta(-1, None), {})
DAY = 86_400


@pytest.fixture
def log(tmp_path: Path) -> StateLog:
    return StateLog(LocalFolder(tmp_path / "learners"), "a")


def state(n: int) -> Snapshot:
    return Snapshot(Meta(n, str(n)), {"w": np.array([float(n)])})


def same(left: Snapshot, right: Snapshot) -> bool:
    return left.to_bytes() == right.to_bytes()


def test_a_snapshot_comes_back_bit_for_bit() -> None:
    meta = Meta(7, "6", 3, 10, "2026-01-01T00:00:00.000+00:00", {"auc": 0.1 + 0.2}, "the loss is high", 5, "c1")
    arrays = {
        "w": np.array([0.1, -0.0, np.inf, np.nan]),
        "n": np.int64(2**62),
        "flag": np.array(True),
        "text": np.array("ü"),
        "none": np.zeros((0, 4)),
    }
    back = Snapshot.from_bytes(Snapshot(meta, arrays, {"w": np.zeros(2)}).to_bytes())
    assert back.meta == meta
    assert set(back.state) == set(arrays)
    for name, array in arrays.items():
        assert np.asarray(array).tobytes() == back.state[name].tobytes()
        assert np.asarray(array).dtype == back.state[name].dtype
        assert np.asarray(array).shape == back.state[name].shape
    assert back.extra["w"].tolist() == [0.0, 0.0]


def test_a_snapshot_is_never_unpickled() -> None:
    data = Snapshot(Meta(0, None), {"w": np.array([object()], dtype=object)}).to_bytes()
    with pytest.raises(ValueError, match="allow_pickle"):
        Snapshot.from_bytes(data)


@pytest.mark.parametrize("first", [0, 17])
def test_a_new_learner_starts_at_whatever_batch_comes(log: StateLog, first: int) -> None:
    log.begin(first, START)
    assert same(log.get(first - 1), START)
    log.begin(first, state(99))
    assert same(log.get(first - 1), START), "a learner begins once"


def test_the_start_is_nobody_elses_state(log: StateLog) -> None:
    log.begin(5, START)
    log.add(5, state(5))
    log.begin(6, START)
    assert same(log.get(5), state(5))
    for other in (3, 6, -1):
        with pytest.raises(StateError, match=f"no state after batch {other}"):
            log.get(other)


def test_a_crash_inside_begin_is_mended_by_the_next(log: StateLog) -> None:
    log.folder.create("start.npz", START.to_bytes())  # died before the mark
    log.begin(4, state(99))
    assert same(log.get(3), START)


def test_the_first_writer_wins(log: StateLog) -> None:
    log.begin(0, START)
    assert log.add(0, state(0))
    assert not log.add(0, replace(state(0), state={"w": np.array([99.0])}))
    assert log.get(0).state["w"] == 0.0


def test_a_lost_state_is_an_error_that_says_what_to_do(log: StateLog) -> None:
    log.begin(0, START)
    log.add(0, state(0))
    log.add(1, state(1))
    log.folder.delete("0000000001.npz")
    log.begin(2, START)
    with pytest.raises(StateError, match=r"learner a: no state after batch 1; expected the file 0000000001\.npz in learners/a .* backup"):
        log.get(1)


def test_a_lost_folder_is_an_error_too(log: StateLog) -> None:
    log.begin(0, START)
    log.add(0, state(0))
    for name in log.folder.names():
        log.folder.delete(name)
    log.begin(1, START)
    with pytest.raises(StateError, match="no state after batch 0"):
        log.get(0)


def test_a_lost_start_is_an_error_before_the_first_batch(log: StateLog) -> None:
    log.begin(3, START)
    log.folder.delete("start.npz")
    log.begin(3, START)
    with pytest.raises(StateError, match="no state after batch 2"):
        log.get(2)


def test_newest_and_batches(log: StateLog) -> None:
    assert log.newest() is None
    assert log.batches() == []
    log.begin(9, START)
    assert same(log.newest() or state(0), START)
    for n in (9, 10, 11, 100):
        log.add(n, state(n))
    log.commands.ask(Command("c", None))
    assert log.batches() == [9, 10, 11, 100]
    assert same(log.newest() or START, state(100))


def test_a_version_is_found_or_those_that_are_kept_are_told(log: StateLog) -> None:
    log.begin(0, START)
    for n in range(12):
        log.add(n, state(n))
    assert same(log.version("3"), state(3))
    for wrong in ("99", "warm", "-1", ""):
        with pytest.raises(StateError, match=r"the newest of 12: 2, 3, .*, 11 \(streaming versions"):
            log.version(wrong)


def test_a_version_lives_on_in_the_batches_that_brought_no_labels(log: StateLog) -> None:
    log.begin(0, START)
    log.add(3, state(3))
    quiet = Snapshot(Meta(4, "3"), state(3).state)
    log.add(4, quiet)
    log.add(5, state(5))
    log.folder.delete("0000000003.npz")
    assert same(log.version("3"), quiet)
    with pytest.raises(StateError):
        log.version("4")


def test_two_learners_do_not_see_each_other(tmp_path: Path) -> None:
    first, two = (StateLog(LocalFolder(tmp_path), name) for name in ("a", "a2"))
    first.begin(0, START)
    first.add(0, state(0))
    two.begin(5, START)
    assert two.batches() == []
    assert same(two.get(4), START)


def thinned_day() -> tuple[int, set[int]]:
    """The batches that stay when every batch of a day thins, and the most there ever were."""
    kept: set[int] = set()
    most = 0
    for n in range(DAY):
        kept.add(n)
        # What thin() does, but looking only where something can change: at the multiples of a power of two.
        if n % 128 == 0 or n == DAY - 1:
            kept = {b for b in kept if keeps(b, n)}
        most = max(most, len(kept))
    return most, kept


def test_a_day_of_batches_keeps_few_and_always_the_newest() -> None:
    most, kept = thinned_day()
    assert most < 900
    assert set(range(DAY - KEPT_WHOLE, DAY)) <= kept
    # However far back an operator wants to go, there is a state about half as old, or nearer.
    for age in (100, 200, 1_000, 10_000, 80_000):
        assert any(age / 2 <= DAY - 1 - b <= age for b in kept), age
    # Ever more sparsely: the gaps never shrink with age.
    ages = sorted(DAY - 1 - b for b in kept)
    assert set(np.diff(ages[:100])) == {1}
    assert all(gap <= max(2, 4 * age // KEPT_WHOLE) for age, gap in zip(ages[100:], np.diff(ages[100:]), strict=False))


def test_what_was_dropped_would_never_have_been_kept_again() -> None:
    for batch in range(0, 3_000, 7):
        verdicts = [keeps(batch, newest) for newest in range(batch, batch + 5_000, 13)]
        assert verdicts == sorted(verdicts, reverse=True), "kept, then dropped, and never kept again"


def test_thin_deletes_just_what_keeps_says(log: StateLog) -> None:
    log.begin(0, START)
    for n in range(300):
        log.folder.replace(f"{n:010d}.npz", b"")
    log.commands.ask(Command("c", None))
    log.thin(299)
    assert log.batches() == [n for n in range(300) if keeps(n, 299)]
    assert 150 <= len(log.batches()) <= 200
    assert log.commands.waiting() is not None
    assert "start.npz" in log.folder.names()
    log.thin(299)
    assert 299 in log.batches()
