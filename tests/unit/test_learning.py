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
def one(tmp_path: Path) -> Learning:
    return opened(tmp_path)


def part(one: Learning, before: Any, seed: int, *, rows: int = 50, off: float | None = 0.1, first: int = 0) -> PartitionSummary:
    """What a partition adds; the answers that were served are `off` from the truth. None: none were served."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, D))
    y = X @ TRUE + 1.0
    own = one.state_of(before.snapshot)
    summary = one.learner.summarize(own if own is not None else one.learner.init(D), X, y) if before.learns and rows else None
    places = np.arange(first, first + rows, dtype=np.int64)
    refs = np.column_stack([np.zeros_like(places), places, np.zeros_like(places), places])
    tally = metrics.nothing() if off is None else metrics.tally("number", y, Scored(y + off, None))
    return PartitionSummary(summary, tally, y if off is not None else np.zeros(0), refs, D)


def publisher(one: Learning) -> Publisher:
    """As the job has it: the weights file is beside the folder of the learners."""
    return Publisher([one], one.log.learners.below(".."), "t")


def batch(one: Learning, n: int, *, off: float | None = 0.1, rows: int = 50) -> Learned:
    publisher(one).carry_out()
    before = one.before(n)
    result = teach(one, n, before, [part(one, before, n, off=off, rows=rows)] if rows else [])
    one.tidy(n, result.snapshot)
    return result


def same(left: Snapshot, right: Snapshot) -> bool:
    return replace(left, meta=replace(left.meta, at="")).to_bytes() == replace(right, meta=replace(right.meta, at="")).to_bytes()


def same_state(left: Snapshot, right: Snapshot) -> bool:
    return left.state.keys() == right.state.keys() and all(left.state[k].tobytes() == right.state[k].tobytes() for k in left.state)


def test_a_cold_start_knows_nothing_until_the_first_label(one: Learning) -> None:
    before = one.before(7)
    assert before.learns
    assert before.packed(one) is None
    assert one.weights(before.snapshot) is None
    nothing = batch(one, 7, rows=0)
    assert (nothing.snapshot.meta.version, nothing.snapshot.meta.total) == (None, 0)
    assert one.weights(nothing.snapshot) is None
    first = batch(one, 8, off=None)
    assert (first.snapshot.meta.version, first.snapshot.meta.learned, first.snapshot.meta.base) == ("8", 50, 7)
    found = one.weights(first.snapshot)
    assert found is not None
    assert found.features == D
    assert first.snapshot.meta.metrics == {}, "a cold learner served no answers"


def test_a_warm_start_answers_before_the_first_label(tmp_path: Path) -> None:
    given = Weights("linear", TRUE, np.asarray(1.0))
    one = opened(tmp_path, warm=given)
    start = one.before(0).snapshot
    assert start.meta.version == WARM
    found = one.weights(start)
    assert found is not None
    np.testing.assert_allclose(found.coefficients, TRUE)
    assert batch(one, 0, rows=0).snapshot.meta.version == WARM
    assert batch(one, 1).snapshot.meta.version == "1"


def test_it_learns(one: Learning) -> None:
    for n in range(20):
        last = batch(one, n)
    found = one.weights(last.snapshot)
    assert found is not None
    np.testing.assert_allclose(found.coefficients, TRUE, atol=0.2)
    assert (last.snapshot.meta.total, last.snapshot.meta.frozen) == (1000, None)
    assert last.snapshot.meta.metrics["rmse"] == pytest.approx(0.1)


def test_a_step_is_pure(one: Learning) -> None:
    batch(one, 0)
    before = one.before(1)
    parts = [part(one, before, 1), part(one, before, 2, first=100)]
    kept = copy.deepcopy((before.snapshot, parts))
    (once, skipped), (again, _) = step(one, 1, before, parts), step(one, 1, before, parts)
    assert same(once, again)
    assert skipped == 0
    assert same(before.snapshot, kept[0])
    for left, right in zip(parts, kept[1], strict=True):
        assert left.y.tobytes() == right.y.tobytes()
        assert left.refs.tobytes() == right.refs.tobytes()
    assert one.log.batches() == [0], "nothing is written"


def test_a_step_records_which_labels_it_learned_in_order(one: Learning) -> None:
    before = one.before(0)
    parts = [part(one, before, 1, rows=2), part(one, before, 2, rows=3, first=100)]
    snapshot, _ = step(one, 0, before, parts)
    assert snapshot.extra["refs"][:, 1].tolist() == [0, 1, 100, 101, 102]
    assert snapshot.extra["sizes"].tolist() == [2, 3]


def test_parts_of_two_widths_are_refused(one: Learning) -> None:
    before = one.before(0)
    parts = [part(one, before, 1), replace(part(one, before, 2), width=D + 1)]
    with pytest.raises(StateError, match=r"learner a: the events of one batch have \[3, 4\] features"):
        step(one, 0, before, parts)


def test_a_repeat_gives_what_was_written_first(one: Learning) -> None:
    before = one.before(0)
    first = teach(one, 0, before, [part(one, before, 1)])
    again = teach(one, 0, one.before(0), [part(one, before, 99)])
    assert (first.repeated, again.repeated) == (False, True)
    assert first.snapshot.to_bytes() == again.snapshot.to_bytes()


def test_one_that_does_worse_than_the_mean_is_frozen_and_takes_back_its_last_good_version(one: Learning) -> None:
    good = [batch(one, n) for n in range(4)][-1]
    bad = batch(one, 4, off=50.0)
    assert bad.snapshot.meta.frozen is not None
    assert "times the baseline" in bad.snapshot.meta.frozen
    assert (bad.snapshot.meta.version, bad.snapshot.meta.base) == ("3", 3)
    assert same_state(bad.snapshot, good.snapshot)
    assert "frozen=" in bad.line()
    after = batch(one, 5)
    assert (after.skipped, after.snapshot.meta.learned, after.snapshot.meta.version) == (50, 0, "3")
    assert after.snapshot.meta.frozen == bad.snapshot.meta.frozen, "it stays frozen until somebody says otherwise"
    assert same_state(after.snapshot, good.snapshot)
    assert len(after.snapshot.extra["refs"]) == 0, "a label that was not learned is not in the books"


def test_a_learner_as_good_as_the_mean_goes_on(one: Learning) -> None:
    for n in range(10):
        last = batch(one, n, off=2.5)  # the standard deviation of the labels is 2.3
    assert last.snapshot.meta.frozen is None


def test_a_few_bad_answers_are_no_divergence(one: Learning) -> None:
    assert batch(one, 0, off=50.0).snapshot.meta.frozen is None
    assert batch(one, 1, off=50.0, rows=49).snapshot.meta.frozen is None
    assert batch(one, 2, off=50.0, rows=1).snapshot.meta.frozen is not None


def test_weights_that_are_not_finite_freeze_at_once(tmp_path: Path) -> None:
    one = opened(tmp_path, params={"compat": "mllib", "step_size": 1e300})
    taught = batch(one, 0, off=None)
    assert taught.snapshot.meta.frozen == "a weight is not finite"
    assert (taught.snapshot.meta.version, dict(taught.snapshot.state)) == (None, {}), "back to knowing nothing"
    assert one.weights(taught.snapshot) is None


def test_a_frozen_learner_resumes_from_its_good_version_and_is_judged_anew(one: Learning) -> None:
    for n in range(4):
        batch(one, n)
    batch(one, 4, off=50.0)
    one.log.commands.ask(Command("c1", None))
    resumed = batch(one, 5)
    meta = resumed.snapshot.meta
    assert (meta.frozen, meta.version, meta.learned, meta.base, meta.command) == (None, "5", 50, 4, "c1")
    assert one.log.commands.waiting() is None
    assert batch(one, 6).snapshot.meta.frozen is None


def test_an_alert_freezes_a_learner_until_somebody_resumes_it(one: Learning) -> None:
    for n in range(3):
        batch(one, n)
    one.log.commands.ask(Command("alarm", None, freeze="alert concept_drift-1"))
    publisher(one).carry_out()
    for n in (3, 4):
        frozen = batch(one, n).snapshot.meta
        assert (frozen.frozen, frozen.version, frozen.learned) == ("alert concept_drift-1", "2", 0)
    one.log.commands.ask(Command("resume", None))
    publisher(one).carry_out()
    resumed = batch(one, 5).snapshot.meta
    assert (resumed.frozen, resumed.version, resumed.learned) == (None, "5", 50)


def test_a_rollback_learns_on_from_an_old_version(one: Learning) -> None:
    states = [batch(one, n) for n in range(6)]
    one.log.commands.ask(Command("c1", "2"))
    publisher(one).carry_out()
    before = one.before(6)
    assert same_state(before.snapshot, states[2].snapshot)
    back = batch(one, 6)
    assert (back.snapshot.meta.base, back.snapshot.meta.total, back.snapshot.meta.version) == (2, 200, "6")
    assert batch(one, 7).snapshot.meta.base == 6


def test_a_rollback_without_labels_is_in_force_at_once(one: Learning) -> None:
    states = [batch(one, n) for n in range(4)]
    one.log.commands.ask(Command("c1", "1"))
    back = batch(one, 4, rows=0)
    assert back.snapshot.meta.version == "1"
    assert same_state(back.snapshot, states[1].snapshot)


def test_a_rollback_to_what_is_not_kept_is_refused_and_learning_goes_on(one: Learning) -> None:
    batch(one, 0)
    one.log.commands.ask(Command("c1", "77"))
    (answer,) = publisher(one).carry_out()
    assert answer.refused is not None
    assert "no version '77' is kept" in answer.refused
    assert one.log.commands.answer_to("c1") == answer
    assert batch(one, 1).snapshot.meta.base == 0


def test_a_command_that_comes_between_a_crash_and_its_repeat_waits_for_the_next_batch(one: Learning) -> None:
    for n in range(3):
        batch(one, n)
    before = one.before(3)
    teach(one, 3, before, [part(one, before, 3)])  # died here
    one.log.commands.ask(Command("c1", "0"))
    assert batch(one, 3).repeated
    assert one.log.commands.accepted() == Command("c1", "0")
    assert batch(one, 4).snapshot.meta.base == 0


def test_a_frozen_learner_never_takes_back_what_an_operator_rolled_away(one: Learning) -> None:
    for n in range(6):
        batch(one, n)
    one.log.commands.ask(Command("c1", "2"))
    batch(one, 6, off=50.0)
    frozen = batch(one, 7, off=50.0).snapshot
    assert frozen.meta.frozen is not None
    assert frozen.meta.base not in (3, 4, 5)


def test_old_states_are_thinned(one: Learning) -> None:
    for n in (51, 52, 200):
        one.log.folder.create(f"{n:010d}.npz", b"")
    batch(one, 201)
    assert one.log.batches() == [52, 200, 201], "of those 100 to 200 batches old every second"


def test_windows_stay_small_however_small_the_batches(one: Learning) -> None:
    snapshot = one.before(0).snapshot
    for n in range(300):
        before = Before(snapshot, n - 1, None, None)
        snapshot, _ = step(one, n, before, [part(one, before, n, rows=1)])
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

    one = opened(tmp_path, window=5_000)
    folder = tmp_path / "learners" / "a" if (tmp_path / "learners").exists() else tmp_path
    kept: list[tuple[int, int, int]] = []
    tracemalloc.start()
    for n in range(86_400):
        batch(one, n, rows=100)
        if n in (7_199, 86_399):
            files = [p for p in folder.rglob("*") if p.is_file()]
            kept.append((len(files), sum(p.stat().st_size for p in files), tracemalloc.get_traced_memory()[0]))
    tracemalloc.stop()
    (files, size, memory), (later_files, later_size, later_memory) = kept
    assert later_files < files + 600  # 100 states more for each doubling of the time
    assert later_size < 2 * size + 1_000_000
    assert later_memory < memory + 1_000_000
    assert one.log.get(86_399).meta.total == 8_640_000
