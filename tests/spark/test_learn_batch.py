"""Each label is learned once: wherever a batch dies and however often it is repeated, the states are those of a quiet run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from streaming import config as cfg
from streaming.errors import StateError
from streaming.lanes.learn import learn_batch
from streaming.learning import weights_file
from streaming.learning.commands import Command
from streaming.learning.publish import Publisher
from streaming.learning.state_log import Snapshot, StateLog
from streaming.learning.summaries import ROWS
from streaming.learning.teach import Learned, Learning, open_learners
from streaming.runtime.files import LocalFolder

CONFIG = cfg.parse(
    {
        "name": "t",
        "kafka": {"bootstrap_servers": "localhost:1"},  # nobody is there: nothing in these tests may be rejected
        "events": {"topic": "t", "key": "id", "schema": "id STRING"},
        "model": {"name": "saved", "version": "1", "uri": "x"},
        "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": "s"},
        "labels": {"topic": "labels"},
        "learners": [
            {"name": "odds", "algorithm": "logistic_regression", "params": {"mini_batch": 3}},
            {"name": "line", "algorithm": "linear_regression", "params": {"compat": "mllib"}},
        ],
        "learn": {"partitions": 2},
        "store": {"kind": "sqlite", "path": "x"},
        "state": "x",
    }
)
STEPS = ("looked up", "summarized", "rejected", "added odds", "added line", "published", "tidied")


class Crash(Exception):
    pass


class Forgetful(StateLog):
    """The mistake that addressing by number prevents: learn from whatever is newest."""

    def get(self, batch: int) -> Snapshot:
        return self.newest() or super().get(batch)


class ForgetfulAndCareless(Forgetful):
    """And let the last writer win."""

    def add(self, batch: int, snapshot: Snapshot) -> bool:
        self.folder.replace(f"{batch:010d}.npz", snapshot.to_bytes())
        return True


class Lane:
    """The lane over a folder of its own."""

    def __init__(self, path: Path, log: type[StateLog] = StateLog) -> None:
        self.folder = LocalFolder(path)
        self.learning: list[Learning] = [
            replace(opened, log=log(opened.log.learners, opened.name)) for opened in open_learners(CONFIG, self.folder)
        ]
        self.publisher = Publisher(self.learning, self.folder, "t")

    def run(self, rows: DataFrame, n: int, at: Callable[[str], None] = lambda step: None) -> list[Learned]:
        return learn_batch(rows, n, publisher=self.publisher, config=CONFIG, at=at)

    def crash(self, rows: DataFrame, n: int, step: str) -> None:
        def at(reached: str) -> None:
            if reached == step:
                raise Crash(step)

        with pytest.raises(Crash):
            self.run(rows, n, at)

    def content(self) -> dict[str, Any]:
        """All that is remembered and published, but for when it was written."""
        written: dict[str, Any] = {"weights": self.folder.read(weights_file.FILE)}
        for learning in self.learning:
            for n in learning.log.batches():
                snapshot = Snapshot.from_bytes(learning.log.folder.read(f"{n:010d}.npz") or b"")
                arrays = {
                    f"{part}{k}": (v.dtype.str, v.shape, v.tobytes())
                    for part in ("state", "extra")
                    for k, v in getattr(snapshot, part).items()
                }
                written[f"{learning.name} {n}"] = (repr(replace(snapshot.meta, at="")), arrays)
            written[f"{learning.name} accepted"] = learning.log.commands.accepted()
        return written


@pytest.fixture(scope="module")
def batches(spark: SparkSession) -> list[DataFrame]:
    """Rows of seven batches, with the answers that were served to some of them."""
    rng = np.random.default_rng(5)

    def rows(n: int) -> list[Sequence[Any]]:
        made: list[Sequence[Any]] = []
        for i in rng.permutation(20).tolist():
            x = rng.normal(size=3)
            y = float(x.sum() + rng.normal() > 0)
            at = ("labels", 0, n * 100 + i, None, b"{}")
            p = float(rng.uniform())
            event = f"t:{i % 2}:{n * 100 + i}"
            made.append((event, "odds", float(p > 0.5), [1 - p, p], x.tolist(), y, None, None, *at))
            made.append((event, "line", p if n else None, None, x.tolist(), y, None, None, *at))
        return made

    return [spark.createDataFrame(rows(n), ROWS).coalesce(1) for n in range(len(STEPS))]


@pytest.fixture(scope="module")
def quiet(batches: list[DataFrame], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is there after each batch when nothing goes wrong."""
    lane = Lane(tmp_path_factory.mktemp("quiet"))
    after = []
    for n, rows in enumerate(batches):
        reached: list[str] = []
        taught = lane.run(rows, n, reached.append)
        assert tuple(reached) == STEPS
        assert [(t.name, t.repeated, t.skipped, t.snapshot.meta.learned, t.snapshot.meta.total) for t in taught] == [
            (name, False, 0, 20, 20 * (n + 1)) for name in ("odds", "line")
        ]
        after.append(lane.content())
    return after


def crash_everywhere(lane: Lane, batches: list[DataFrame], quiet: list[dict[str, Any]]) -> None:
    """Every batch dies once, each after another step, and is repeated."""
    for n, (rows, step) in enumerate(zip(batches, STEPS, strict=True)):
        lane.crash(rows, n, step)
        taught = lane.run(rows, n)
        wrote = STEPS.index(step)
        assert [t.repeated for t in taught] == [wrote >= STEPS.index("added odds"), wrote >= STEPS.index("added line")]
        assert lane.content() == quiet[n], f"died after: {step}"


def test_every_batch_changes_the_weights_and_publishes_them(quiet: list[dict[str, Any]]) -> None:
    assert len({content["weights"] for content in quiet}) == len(quiet)
    assert b'"version": "6"' in quiet[-1]["weights"]


def test_a_crash_after_any_step_and_a_repeat_leave_the_states_of_a_quiet_run(
    batches: list[DataFrame], quiet: list[dict[str, Any]], tmp_path: Path
) -> None:
    crash_everywhere(Lane(tmp_path), batches, quiet)


def test_that_check_catches_a_lane_that_learns_from_the_newest_and_writes_it_again(
    batches: list[DataFrame], quiet: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        crash_everywhere(Lane(tmp_path, ForgetfulAndCareless), batches, quiet)


def test_a_repeat_changes_nothing_whatever_it_brings(batches: list[DataFrame], tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.run(batches[0], 0)
    first = lane.run(batches[1], 1)
    before = lane.content()
    for rows in (batches[1], batches[2], batches[1].limit(0)):
        again = lane.run(rows, 1)
        assert [t.repeated for t in again] == [True, True]
        assert [t.snapshot.to_bytes() for t in again] == [t.snapshot.to_bytes() for t in first]
        assert lane.content() == before


def test_an_empty_batch_keeps_the_weights_and_their_version(batches: list[DataFrame], tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.run(batches[0].limit(0), 0)
    assert weights_file.read(lane.folder) == {}, "nobody knows anything yet"
    lane.run(batches[0], 1)
    weights = lane.folder.read(weights_file.FILE)
    taught = lane.run(batches[0].limit(0), 2)
    assert lane.folder.read(weights_file.FILE) == weights
    assert [(t.snapshot.meta.version, t.snapshot.meta.learned, t.snapshot.meta.batch) for t in taught] == [("1", 0, 2)] * 2


def missing_state(lane: Lane, batches: list[DataFrame]) -> None:
    """The state a batch must start from is gone: it says so, and writes nothing."""
    lane.run(batches[0], 0)
    lane.run(batches[1], 1)
    lane.learning[1].log.folder.delete("0000000001.npz")
    before = lane.content()
    with pytest.raises(StateError, match="learner line: no state after batch 1"):
        lane.run(batches[2], 2)
    assert lane.content() == before


def test_a_missing_state_is_never_replaced_by_an_older_one(batches: list[DataFrame], tmp_path: Path) -> None:
    missing_state(Lane(tmp_path), batches)


def test_that_check_catches_a_lane_that_learns_from_the_newest(batches: list[DataFrame], tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        missing_state(Lane(tmp_path, Forgetful), batches)


def test_a_rollback_that_dies_anywhere_is_carried_out_once(batches: list[DataFrame], tmp_path: Path) -> None:
    def run(path: Path, step: str | None) -> dict[str, Any]:
        lane = Lane(path)
        for n in range(2):
            lane.run(batches[n], n)
        lane.learning[0].log.commands.ask(Command("c1", "0"))
        if step is not None:
            lane.crash(batches[2], 2, step)
        lane.run(batches[2], 2)
        meta = lane.learning[0].log.get(2).meta
        assert (meta.base, meta.command, meta.total, meta.version) == (0, "c1", 40, "2")
        assert lane.learning[0].log.commands.waiting() is None
        lane.run(batches[3], 3)
        assert lane.learning[0].log.get(3).meta.base == 2, "once"
        return lane.content()

    quiet = run(tmp_path / "quiet", None)
    for step in ("summarized", "added odds"):
        assert run(tmp_path / step, step) == quiet


@pytest.mark.parametrize("step", ["looked up", "added odds", "published"])
def test_a_command_confirmed_while_a_batch_is_under_way_is_not_undone_by_it(batches: list[DataFrame], tmp_path: Path, step: str) -> None:
    lane = Lane(tmp_path)
    for n in range(2):
        lane.run(batches[n], n)
    odds = lane.learning[0]

    def ask(reached: str) -> None:
        if reached == step:
            odds.log.commands.ask(Command("c1", "0"))
            (answer,) = lane.publisher.carry_out()
            assert answer.version == "0", "the job's word"
            assert weights_file.read(lane.folder)["odds"][0] == "0", "and it is true"

    lane.run(batches[2], 2, ask)
    assert weights_file.read(lane.folder)["odds"][0] == "0", "the batch that was under way leaves the command in force"
    assert weights_file.read(lane.folder)["line"][0] == "2", "the other learner goes on"
    Publisher(lane.learning, lane.folder, "t").start()  # a crash and a restart before the next label
    assert weights_file.read(lane.folder)["odds"][0] == "0"
    lane.run(batches[3], 3)
    assert odds.log.get(3).meta.base == 0, "learning goes on from there"
    assert weights_file.read(lane.folder)["odds"][0] == "3"


def test_of_two_commands_the_later_one_is_in_force_and_both_are_answered(batches: list[DataFrame], tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    for n in range(3):
        lane.run(batches[n], n)
    commands = lane.learning[0].log.commands
    for command in (Command("c1", "0"), Command("c2", "1"), Command("c3", "999")):
        commands.ask(command)
        lane.publisher.carry_out()
    answers = [commands.answer_to(name) for name in ("c1", "c2", "c3")]
    assert [answer.version for answer in answers if answer is not None] == ["0", "1", None]
    assert answers[2] is not None
    assert "no version '999'" in str(answers[2].refused)
    assert weights_file.read(lane.folder)["odds"][0] == "1", "a command that was refused changes nothing"
