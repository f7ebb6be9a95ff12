"""`rollback --to warm`: back to the coefficients that a learner began with, in force at once and learned on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streaming.errors import StateError
from streaming.learning import weights_file
from streaming.learning.commands import Command
from streaming.learning.publish import Publisher
from streaming.learning.state_log import WARM
from streaming.learning.teach import Learning
from streaming.online.weights import Weights
from streaming.runtime.audit import AuditLog
from tests.unit.test_learning import TRUE, batch, opened, publisher

GIVEN = Weights("linear", TRUE * 3, np.asarray(-7.0))


@pytest.fixture
def warm(tmp_path: Path) -> Learning:
    learning = opened(tmp_path / "learners", warm=GIVEN)
    for n in range(4):
        batch(learning, n)
    return learning


def in_force(learning: Learning) -> tuple[str, Weights]:
    return weights_file.read(learning.log.learners.below(".."))[learning.name]


def test_it_is_in_force_at_once_and_learned_on_from(warm: Learning) -> None:
    publisher(warm).start()
    assert in_force(warm)[0] == "3"
    warm.log.commands.ask(Command("c", WARM))
    (answer,) = publisher(warm).carry_out()
    assert (answer.version, answer.refused) == (WARM, None)
    version, weights = in_force(warm)
    assert version == WARM
    np.testing.assert_array_equal(weights.coefficients, GIVEN.coefficients)
    before = warm.before(4)
    assert before.snapshot.meta.version == WARM
    after = batch(warm, 4).snapshot
    assert (after.meta.version, after.meta.base, after.meta.command) == ("4", -1, "c")
    learned = warm.weights(after)
    assert learned is not None
    assert np.linalg.norm(learned.coefficients - GIVEN.coefficients) < np.linalg.norm(TRUE - GIVEN.coefficients)


def test_a_restart_before_the_next_label_changes_nothing(warm: Learning) -> None:
    warm.log.commands.ask(Command("c", WARM))
    publisher(warm).carry_out()
    publisher(warm).start()
    assert in_force(warm)[0] == WARM
    assert publisher(warm).carry_out() == []


def test_a_learner_that_began_cold_has_no_warm_version(tmp_path: Path) -> None:
    cold = opened(tmp_path / "learners")
    batch(cold, 0)
    with pytest.raises(StateError, match="no version 'warm' is kept"):
        cold.log.version(WARM)
    cold.log.commands.ask(Command("c", WARM))
    (answer,) = publisher(cold).carry_out()
    assert "no version 'warm' is kept" in str(answer.refused)


def test_whose_request_it_was_is_in_the_audit_log(warm: Learning, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    warm.log.commands.ask(Command("c", WARM, by="ada (root@h)"))
    Publisher([warm], warm.log.learners.below(".."), "t", audit=log).carry_out()
    (line,) = log.lines()
    for words in (b'"actor":"ada (root@h)"', b'"action":"carry out"', b'"after":"warm"', b'"result":"in force"'):
        assert words in line
