"""One learner through its batches: cold and warm starts, what a step is made of, freezing, resuming and going back. No Spark."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming import config as cfg
from streaming.errors import ConfigError, StateError
from streaming.learning.commands import Command
from streaming.learning.publish import Publisher
from streaming.learning.state_log import Snapshot
from streaming.learning.summaries import PartitionSummary
from streaming.learning.teach import WARM, Before, Learned, Learning, open_learners, step, teach
from streaming.online import metrics
from streaming.online.weights import Scored, Weights
from streaming.runtime.files import LocalFolder

D = 3
TRUE = np.array([1.0, -2.0, 0.5])


def config(*learners: dict[str, Any]) -> cfg.Config:
    return cfg.parse(
        {
            "name": "t",
            "kafka": {"bootstrap_servers": "localhost:1"},
            "events": {"topic": "t", "key": "id", "schema": "id STRING"},
            "model": {"name": "saved", "version": "1", "uri": "x"},
            "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": "s"},
            "labels": {"topic": "labels"},
            "learners": list(learners),
            "store": {"kind": "sqlite", "path": "x"},
            "state": "x",
        }
    )


def opened(path: Path, *, warm: Weights | None = None, **given: Any) -> Learning:
    section = {"name": "a", "algorithm": "linear_regression", "window": 100} | given
    return open_learners(config(section), LocalFolder(path), warm=None if warm is None else {"a": warm})[0]


@pytest.fixture
def learning(tmp_path: Path) -> Learning:
    return opened(tmp_path)


def part(learning: Learning, before: Any, seed: int, *, rows: int = 50, off: float | None = 0.1, first: int = 0) -> PartitionSummary:
    """What a partition adds; the answers that were served are `off` from the truth. None: none were served."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, D))
    y = X @ TRUE + 1.0
    own = learning.state_of(before.snapshot)
    summary = learning.learner.summarize(own if own is not None else learning.learner.init(D), X, y) if before.learns and rows else None
    places = np.arange(first, first + rows, dtype=np.int64)
    refs = np.column_stack([np.zeros_like(places), places, np.zeros_like(places), places])
    tally = metrics.nothing() if off is None else metrics.tally("number", y, Scored(y + off, None))
    return PartitionSummary(summary, tally, y if off is not None else np.zeros(0), refs, D)


def publisher(learning: Learning) -> Publisher:
    """As the job has it: the weights file is beside the folder of the learners."""
    return Publisher([learning], learning.log.learners.below(".."), "t")


def batch(learning: Learning, n: int, *, off: float | None = 0.1, rows: int = 50) -> Learned:
    publisher(learning).carry_out()
    before = learning.before(n)
    result = teach(learning, n, before, [part(learning, before, n, off=off, rows=rows)] if rows else [])
    learning.tidy(n, result.snapshot)
    return result


def same(left: Snapshot, right: Snapshot) -> bool:
    return replace(left, meta=replace(left.meta, at="")).to_bytes() == replace(right, meta=replace(right.meta, at="")).to_bytes()


def same_state(left: Snapshot, right: Snapshot) -> bool:
    return left.state.keys() == right.state.keys() and all(left.state[k].tobytes() == right.state[k].tobytes() for k in left.state)


def test_a_cold_start_knows_nothing_until_the_first_label(learning: Learning) -> None:
    before = learning.before(7)
    assert before.learns
    assert before.packed(learning) is None
    assert learning.weights(before.snapshot) is None
    nothing = batch(learning, 7, rows=0)
    assert (nothing.snapshot.meta.version, nothing.snapshot.meta.total) == (None, 0)
    assert learning.weights(nothing.snapshot) is None
    first = batch(learning, 8, off=None)
    assert (first.snapshot.meta.version, first.snapshot.meta.learned, first.snapshot.meta.base) == ("8", 50, 7)
    weights = learning.weights(first.snapshot)
    assert weights is not None
    assert weights.features == D
    assert first.snapshot.meta.metrics == {}, "a cold learner served no answers"


def test_a_warm_start_answers_before_the_first_label(tmp_path: Path) -> None:
    given = Weights("linear", TRUE, np.asarray(1.0))
    learning = opened(tmp_path, warm=given)
    start = learning.before(0).snapshot
    assert start.meta.version == WARM
    weights = learning.weights(start)
    assert weights is not None
    np.testing.assert_allclose(weights.coefficients, TRUE)
    assert batch(learning, 0, rows=0).snapshot.meta.version == WARM
    assert batch(learning, 1).snapshot.meta.version == "1"


def test_it_learns(learning: Learning) -> None:
    for n in range(20):
        last = batch(learning, n)
    weights = learning.weights(last.snapshot)
    assert weights is not None
    np.testing.assert_allclose(weights.coefficients, TRUE, atol=0.2)
    assert (last.snapshot.meta.total, last.snapshot.meta.frozen) == (1000, None)
    assert last.snapshot.meta.metrics["rmse"] == pytest.approx(0.1)


def test_a_step_is_pure(learning: Learning) -> None:
    batch(learning, 0)
    before = learning.before(1)
    parts = [part(learning, before, 1), part(learning, before, 2, first=100)]
    kept = copy.deepcopy((before.snapshot, parts))
    (once, skipped), (again, _) = step(learning, 1, before, parts), step(learning, 1, before, parts)
    assert same(once, again)
    assert skipped == 0
    assert same(before.snapshot, kept[0])
    for left, right in zip(parts, kept[1], strict=True):
        assert left.y.tobytes() == right.y.tobytes()
        assert left.refs.tobytes() == right.refs.tobytes()
    assert learning.log.batches() == [0], "nothing is written"


def test_a_step_records_which_labels_it_learned_in_order(learning: Learning) -> None:
    before = learning.before(0)
    parts = [part(learning, before, 1, rows=2), part(learning, before, 2, rows=3, first=100)]
    snapshot, _ = step(learning, 0, before, parts)
    assert snapshot.extra["refs"][:, 1].tolist() == [0, 1, 100, 101, 102]
    assert snapshot.extra["sizes"].tolist() == [2, 3]


def test_parts_of_two_widths_are_refused(learning: Learning) -> None:
    before = learning.before(0)
    parts = [part(learning, before, 1), replace(part(learning, before, 2), width=D + 1)]
    with pytest.raises(StateError, match=r"learner a: the events of one batch have \[3, 4\] features"):
        step(learning, 0, before, parts)


def test_a_repeat_gives_what_was_written_first(learning: Learning) -> None:
    before = learning.before(0)
    first = teach(learning, 0, before, [part(learning, before, 1)])
    again = teach(learning, 0, learning.before(0), [part(learning, before, 99)])
    assert (first.repeated, again.repeated) == (False, True)
    assert first.snapshot.to_bytes() == again.snapshot.to_bytes()


def test_one_that_does_worse_than_the_mean_is_frozen_and_takes_back_its_last_good_version(learning: Learning) -> None:
    good = [batch(learning, n) for n in range(4)][-1]
    bad = batch(learning, 4, off=50.0)
    assert bad.snapshot.meta.frozen is not None
    assert "times the baseline" in bad.snapshot.meta.frozen
    assert (bad.snapshot.meta.version, bad.snapshot.meta.base) == ("3", 3)
    assert same_state(bad.snapshot, good.snapshot)
    assert "frozen=" in bad.line()
    after = batch(learning, 5)
    assert (after.skipped, after.snapshot.meta.learned, after.snapshot.meta.version) == (50, 0, "3")
    assert after.snapshot.meta.frozen == bad.snapshot.meta.frozen, "it stays frozen until somebody says otherwise"
    assert same_state(after.snapshot, good.snapshot)
    assert len(after.snapshot.extra["refs"]) == 0, "a label that was not learned is not in the books"


def test_a_learner_as_good_as_the_mean_goes_on(learning: Learning) -> None:
    for n in range(10):
        last = batch(learning, n, off=2.5)  # the standard deviation of the labels is 2.3
    assert last.snapshot.meta.frozen is None


def test_a_few_bad_answers_are_no_divergence(learning: Learning) -> None:
    assert batch(learning, 0, off=50.0).snapshot.meta.frozen is None
    assert batch(learning, 1, off=50.0, rows=49).snapshot.meta.frozen is None
    assert batch(learning, 2, off=50.0, rows=1).snapshot.meta.frozen is not None


def test_weights_that_are_not_finite_freeze_at_once(tmp_path: Path) -> None:
    learning = opened(tmp_path, params={"compat": "mllib", "step_size": 1e300})
    taught = batch(learning, 0, off=None)
    assert taught.snapshot.meta.frozen == "a weight is not finite"
    assert (taught.snapshot.meta.version, dict(taught.snapshot.state)) == (None, {}), "back to knowing nothing"
    assert learning.weights(taught.snapshot) is None


def test_a_frozen_learner_resumes_from_its_good_version_and_is_judged_anew(learning: Learning) -> None:
    for n in range(4):
        batch(learning, n)
    batch(learning, 4, off=50.0)
    learning.log.commands.ask(Command("c1", None))
    resumed = batch(learning, 5)
    meta = resumed.snapshot.meta
    assert (meta.frozen, meta.version, meta.learned, meta.base, meta.command) == (None, "5", 50, 4, "c1")
    assert learning.log.commands.waiting() is None
    assert batch(learning, 6).snapshot.meta.frozen is None


def test_an_alert_freezes_a_learner_until_somebody_resumes_it(learning: Learning) -> None:
    for n in range(3):
        batch(learning, n)
    learning.log.commands.ask(Command("alarm", None, freeze="alert concept_drift-1"))
    publisher(learning).carry_out()
    for n in (3, 4):
        frozen = batch(learning, n).snapshot.meta
        assert (frozen.frozen, frozen.version, frozen.learned) == ("alert concept_drift-1", "2", 0)
    learning.log.commands.ask(Command("resume", None))
    publisher(learning).carry_out()
    resumed = batch(learning, 5).snapshot.meta
    assert (resumed.frozen, resumed.version, resumed.learned) == (None, "5", 50)


def test_a_rollback_learns_on_from_an_old_version(learning: Learning) -> None:
    states = [batch(learning, n) for n in range(6)]
    learning.log.commands.ask(Command("c1", "2"))
    publisher(learning).carry_out()
    before = learning.before(6)
    assert same_state(before.snapshot, states[2].snapshot)
    back = batch(learning, 6)
    assert (back.snapshot.meta.base, back.snapshot.meta.total, back.snapshot.meta.version) == (2, 200, "6")
    assert batch(learning, 7).snapshot.meta.base == 6


def test_a_rollback_without_labels_is_in_force_at_once(learning: Learning) -> None:
    states = [batch(learning, n) for n in range(4)]
    learning.log.commands.ask(Command("c1", "1"))
    back = batch(learning, 4, rows=0)
    assert back.snapshot.meta.version == "1"
    assert same_state(back.snapshot, states[1].snapshot)


def test_a_rollback_to_what_is_not_kept_is_refused_and_learning_goes_on(learning: Learning) -> None:
    batch(learning, 0)
    learning.log.commands.ask(Command("c1", "77"))
    (answer,) = publisher(learning).carry_out()
    assert answer.refused is not None
    assert "no version '77' is kept" in answer.refused
    assert learning.log.commands.answer_to("c1") == answer
    assert batch(learning, 1).snapshot.meta.base == 0


def test_a_command_that_comes_between_a_crash_and_its_repeat_waits_for_the_next_batch(learning: Learning) -> None:
    for n in range(3):
        batch(learning, n)
    before = learning.before(3)
    teach(learning, 3, before, [part(learning, before, 3)])  # died here
    learning.log.commands.ask(Command("c1", "0"))
    assert batch(learning, 3).repeated
    assert learning.log.commands.accepted() == Command("c1", "0")
    assert batch(learning, 4).snapshot.meta.base == 0


def test_a_frozen_learner_never_takes_back_what_an_operator_rolled_away(learning: Learning) -> None:
    for n in range(6):
        batch(learning, n)
    learning.log.commands.ask(Command("c1", "2"))
    batch(learning, 6, off=50.0)
    frozen = batch(learning, 7, off=50.0).snapshot
    assert frozen.meta.frozen is not None
    assert frozen.meta.base not in (3, 4, 5)


def test_old_states_are_thinned(learning: Learning) -> None:
    for n in (51, 52, 200):
        learning.log.folder.create(f"{n:010d}.npz", b"")
    batch(learning, 201)
    assert learning.log.batches() == [52, 200, 201], "of those 100 to 200 batches old every second"


def test_windows_stay_small_however_small_the_batches(learning: Learning) -> None:
    snapshot = learning.before(0).snapshot
    for n in range(300):
        before = Before(snapshot, n - 1, None, None)
        snapshot, _ = step(learning, n, before, [part(learning, before, n, rows=1)])
    assert int(snapshot.extra["window.batches"]) <= 40
    assert int(snapshot.extra["watch.batches"]) <= 40
    held = sum(int(snapshot.extra[f"window.batches.{i}.n"]) for i in range(int(snapshot.extra["window.batches"])))
    assert 100 <= held <= 110


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"algorithm": "magic"}, "x.yaml: learners.0: algorithm: unknown 'magic'"),
        ({"params": {"speed": 1}}, "x.yaml: learners.0: linear_regression: speed: unknown parameter; valid: "),
        ({"params": {"learning_rate": "fast"}}, "x.yaml: learners.0: linear_regression: learning_rate: got 'fast'"),
    ],
)
def test_wrong_learners_are_named_with_their_place(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    section = {"name": "a", "algorithm": "linear_regression"} | given
    with pytest.raises(ConfigError) as error:
        open_learners(config(section), LocalFolder(tmp_path), source="x.yaml")
    assert str(error.value).startswith(words), error.value


def test_a_warm_start_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learners\.0\.warm_start: "):
        opened(tmp_path, warm=Weights("nearest", np.zeros((2, D)), None))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_a_day_of_labels_leaves_the_log_and_the_memory_bounded(tmp_path: Path) -> None:
    """100 labels in each of 86,400 batches: what is kept after a day is little more than after its first hours."""
    import tracemalloc

    learning = opened(tmp_path, window=5_000)
    folder = tmp_path / "learners" / "a" if (tmp_path / "learners").exists() else tmp_path
    kept: list[tuple[int, int, int]] = []
    tracemalloc.start()
    for n in range(86_400):
        batch(learning, n, rows=100)
        if n in (7_199, 86_399):
            files = [p for p in folder.rglob("*") if p.is_file()]
            kept.append((len(files), sum(p.stat().st_size for p in files), tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    (files, size, memory), (later_files, later_size, later_memory) = kept
    assert later_files < files + 600  # 100 states more for each doubling of the time
    assert later_size < 2 * size + 1_000_000
    assert later_memory < memory + 1_000_000
    assert learning.log.get(86_399).meta.total == 8_640_000
