"""A learner's states stay tied to the checkpoint and to what they were learned on; every way out keeps each label learned once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streaming import config as cfg
from streaming.errors import StateError, TransientError
from streaming.learning import migrate, origin
from streaming.learning.state_log import Meta, Snapshot
from streaming.learning.teach import Learning, open_learners, teach
from streaming.online.base import to_arrays
from streaming.runtime import claim as claims
from streaming.runtime.files import Folder, LocalFolder

ENDS = {"labels": {"0": 40, "1": 7}, "p": {"0": 99}}


def config(**learner: Any) -> cfg.Config:
    section = {"name": "a", "algorithm": "logistic_regression", "params": {"mini_batch": 3}} | learner
    return cfg.parse(
        {
            "name": "t",
            "kafka": {"bootstrap_servers": "localhost:1"},
            "events": {"topic": "t", "key": "id", "schema": "id STRING"},
            "model": {"name": "saved", "version": "1", "uri": "x"},
            "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": "s"},
            "labels": {"topic": "labels"},
            "learners": [section],
            "store": {"kind": "sqlite", "path": "x"},
            "state": "x",
        }
    )


def opened(state: Path, *, features: str | None = "f1", **learner: Any) -> Learning:
    return open_learners(config(**learner), LocalFolder(state), features=features)[0]


def checkpoint(state: Path, query: str, *, done: int, ends: dict[str, Any] = ENDS) -> Folder:
    """checkpoints/learn as Spark leaves it after `done` batches."""
    folder = LocalFolder(state).below("checkpoints").below("learn")
    folder.replace("metadata", json.dumps({"id": query}).encode())
    for n in range(done):
        folder.below("commits").replace(str(n), b"v1\n{}")
        sources = "\n".join(json.dumps({topic: offsets}) for topic, offsets in ends.items())
        folder.below("offsets").replace(str(n), f'v1\n{{"batchWatermarkMs":0,"conf":{{"a":"b"}}}}\n{sources}'.encode())
    return folder


def learned(state: Path, query: str, batches: int, *, ends: dict[str, Any] | None = None, **learner: Any) -> Learning:
    """A log of some batches, as the lane makes it."""
    learning = opened(state, **learner)
    learning.settle(query)
    weights = to_arrays(learning.learner.init(3))
    for n in range(batches):
        number = learning.number(n)
        learning.log.begin(number, learning.start)
        meta = Meta(number, str(number), learned=1, total=number + 1, base=number - 1)
        learning.log.add(number, Snapshot(meta, weights).reading_to(ends or ENDS))
    return learning


def test_it_goes_on_with_the_checkpoint_that_it_began_with(tmp_path: Path) -> None:
    learning = learned(tmp_path, "q1", 5)
    assert learning.tie("q1").query == "q1"
    assert opened(tmp_path).tie("q1").learned_on == {
        "algorithm": "logistic_regression",
        "params": learning.learned_on["params"],
        "features": "f1",
    }


@pytest.mark.parametrize(("query", "words"), [(None, "is gone"), ("q2", "another checkpoint")])
def test_another_checkpoint_or_none_is_an_error_with_the_ways_out(tmp_path: Path, query: str | None, words: str) -> None:
    learned(tmp_path, "q1", 5)
    with pytest.raises(StateError, match=words) as refused:
        opened(tmp_path).tie(query)
    assert "streaming learner migrate" in str(refused.value)
    assert "streaming learner reset" in str(refused.value)


def test_a_folder_of_before_goes_on_and_takes_on_what_it_meets(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    (tmp_path / "learners" / "a.origin.json").unlink()
    opened(tmp_path).settle("q7")
    assert origin.read(LocalFolder(tmp_path).below("learners"), "a").query == "q7"
    with pytest.raises(StateError, match="another checkpoint"):
        opened(tmp_path).tie("q8")


def test_a_folder_of_before_whose_checkpoint_was_deleted_is_found_out(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    (tmp_path / "learners" / "a.origin.json").unlink()
    with pytest.raises(StateError, match="is gone"):
        opened(tmp_path).tie(None)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"params": {"mini_batch": 4}}, "params"),
        ({"algorithm": "linear_regression"}, "algorithm"),
        ({"features": "f2"}, "stages of the saved pipeline"),
    ],
)
def test_another_meaning_is_never_learned_on_in_silence(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    learned(tmp_path, "q1", 3)
    with pytest.raises(StateError, match=word) as refused:
        opened(tmp_path, **change).tie("q1")
    assert "streaming learner migrate CONFIG a" in str(refused.value)


def test_what_is_not_known_is_not_compared(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    assert opened(tmp_path, features=None).tie("q1").learned_on["features"] == "f1"


def test_after_a_deleted_checkpoint_everything_goes_on_where_it_was(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 5)
    state = LocalFolder(tmp_path)
    outcome = migrate.migrate(config(), opened(tmp_path), state)
    assert (outcome.version, outcome.starting) == ("4", {"labels": ENDS["labels"]})
    again = opened(tmp_path)
    again.tie(None)  # the job may start
    checkpoint(tmp_path, "q2", done=0)
    again.settle("q2")
    assert again.number(0) == 5  # no version means two things
    assert again.before(again.number(0)).snapshot.meta.batch == 4
    assert migrate.starting_offsets([again], "labels", 3) == {"labels": {"0": 40, "1": 7, "2": -2}}
    with pytest.raises(StateError, match="another checkpoint"):
        opened(tmp_path).tie("q1")


def test_states_of_before_need_a_word_on_the_labels(tmp_path: Path) -> None:
    learning = learned(tmp_path, "q1", 2)
    stands = learning.log.get(1)
    learning.log.folder.replace("0000000001.npz", replace(stands, extra={}).to_bytes())
    with pytest.raises(StateError, match="--labels-from"):
        migrate.migrate(config(), opened(tmp_path), LocalFolder(tmp_path))
    migrate.migrate(config(), opened(tmp_path), LocalFolder(tmp_path), labels_from="latest")
    assert migrate.starting_offsets([opened(tmp_path)], "labels", 2) == {"labels": {"0": -1, "1": -1}}


def test_taken_out_and_put_back(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    checkpoint(tmp_path, "q1", done=9, ends={"labels": {"0": 70, "1": 9}})
    with pytest.raises(StateError, match="no state after batch 8"):
        opened(tmp_path).before(9)
    migrate.migrate(config(), opened(tmp_path), LocalFolder(tmp_path))
    again = opened(tmp_path)
    again.settle("q1")
    assert again.before(again.number(9)).snapshot.meta.batch == 2


def test_a_checkpoint_from_a_backup_would_bring_labels_twice(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 5)
    checkpoint(tmp_path, "q1", done=2, ends={"labels": {"0": 10, "1": 7}})
    with pytest.raises(StateError, match="delete checkpoints/learn"):
        migrate.migrate(config(), opened(tmp_path), LocalFolder(tmp_path))


def test_a_state_of_other_records_is_not_taken_for_the_batchs_own(tmp_path: Path) -> None:
    learning = learned(tmp_path, "q1", 2)
    before = learning.before(1)
    assert teach(learning, 1, before, [], ends=ENDS).repeated
    with pytest.raises(StateError, match="other records"):
        teach(learning, 1, before, [], ends={"labels": {"0": 41, "1": 7}})


def test_other_parameters_are_taken_along_where_the_state_fits(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    checkpoint(tmp_path, "q1", done=3)
    changed: dict[str, Any] = {"params": {"mini_batch": 4}}
    migrate.migrate(config(**changed), opened(tmp_path, **changed), LocalFolder(tmp_path))
    opened(tmp_path, **changed).tie("q1")
    other: dict[str, Any] = {"algorithm": "kmeans", "params": {"k": 2}}
    with pytest.raises(StateError, match="streaming learner reset"):
        migrate.migrate(config(**other), opened(tmp_path, **other), LocalFolder(tmp_path))


def test_reset_begins_anew_under_new_numbers(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    checkpoint(tmp_path, "q1", done=3)
    other: dict[str, Any] = {"algorithm": "linear_regression", "params": {}}
    migrate.reset(opened(tmp_path, **other), LocalFolder(tmp_path))
    again = opened(tmp_path, **other)
    again.settle("q1")
    assert again.number(3) == 3
    assert again.before(3).snapshot.meta.version is None


def test_states_that_are_lost_are_not_states_that_were_given_up(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    folder, learners = checkpoint(tmp_path, "q1", done=3), LocalFolder(tmp_path).below("learners")
    assert not origin.are_lost(folder, learners)
    migrate.reset(opened(tmp_path), LocalFolder(tmp_path))
    assert not origin.are_lost(folder, learners)  # the job may start
    shutil.rmtree(tmp_path / "learners")
    assert origin.are_lost(folder, learners)
    assert not origin.are_lost(LocalFolder(tmp_path / "none"), learners)


def test_a_job_that_was_killed_in_its_first_batch_has_lost_nothing(tmp_path: Path) -> None:
    folder, learners = checkpoint(tmp_path, "q1", done=0), LocalFolder(tmp_path).below("learners")
    folder.below("offsets").replace("0", b"v1\n{}")
    assert not origin.are_lost(folder, learners)
    folder.below("commits").replace("0", b"v1\n{}")
    assert origin.are_lost(folder, learners)


def test_reset_after_a_deleted_checkpoint_uses_no_version_twice(tmp_path: Path) -> None:
    learned(tmp_path, "q1", 3)
    migrate.reset(opened(tmp_path), LocalFolder(tmp_path))
    again = opened(tmp_path)
    again.settle("q2")
    assert again.number(0) == 3


@pytest.mark.parametrize("how", ["reset", "migrate"])
def test_a_running_job_is_not_disturbed_and_none_begins_meanwhile(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learned(tmp_path, "q1", 3)
    state, written = LocalFolder(tmp_path), []
    monkeypatch.setattr(claims, "_PATIENCE_S", 0.1)

    def change() -> None:
        migrate.reset(opened(tmp_path), state) if how == "reset" else migrate.migrate(config(), opened(tmp_path), state)

    def write(*_: Any) -> None:
        with pytest.raises(TransientError, match="another process runs the lane learn"):
            claims.claim(state, "learn").__enter__()
        written.append(how)

    with claims.claim(state, "learn"), pytest.raises(StateError, match="stop it first"):
        change()
    monkeypatch.setattr(origin, "write", write)
    change()
    assert written == [how]
    assert claims.is_claimed(state, "learn") is False


def test_what_a_checkpoint_says(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "q1", done=4)
    assert origin.query_of(folder) == "q1"
    assert origin.next_batch(folder) == 4
    assert origin.ends(folder, 3) == ENDS
    assert origin.ends(folder, 17) == {}
    assert origin.query_of(LocalFolder(tmp_path / "nothing")) is None
