"""What operators do with the versions of a learner: list, ask for an earlier one, resume, export."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pyspark.sql import SparkSession

from streaming.config.load import Config
from streaming.errors import ConfigError, StateError
from streaming.learning.commands import Command
from streaming.learning.state_log import Meta, Snapshot
from streaming.learning.teach import Learning, open_learners
from streaming.online.weights import Weights
from streaming.runtime import files
from streaming.runtime.claim import is_claimed

Session = Callable[[], SparkSession]

#: How often the job's word is looked for.
_LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True)
class Reply:
    """What became of a request for `version`. `in force`: the job says so. `no job`: it waits until one runs. `silent`: no word yet."""

    version: str | None
    outcome: Literal["in force", "no job", "silent"]


def learner(config: Config, name: str, spark: Session, *, features: str | None = None) -> Learning:
    """A configured learner with its log. ConfigError names the learners there are. `features`: see :func:`open_learners`."""
    learners = open_learners(config, files.folder(config.state, spark), features=features)
    chosen = next((learning for learning in learners if learning.name == name), None)
    if chosen is None:
        raise ConfigError(f"no learner {name!r} in this configuration; there are: {', '.join(own.name for own in learners) or 'none'}")
    return chosen


def history(learning: Learning) -> list[Meta]:
    """What is known of the kept states that changed the weights or froze the learner, oldest first."""
    metas = [learning.log.get(batch).meta for batch in learning.log.batches()]
    return [meta for meta in metas if meta.learned or meta.frozen or meta.command]


def newest_version(config: Config, name: str, spark: Session) -> str | None:
    """The version of the newest state of a learner; None when it has none."""
    newest = learner(config, name, spark).log.newest()
    return None if newest is None else newest.meta.version


def rollback(config: Config, name: str, *, to: str | None, spark: Session, wait_s: float = 60.0, by: str = "") -> Reply:
    """Ask the job to put version `to` in force and learn on from there (None: from where it is, if it is frozen).

    `by`: who asks, for the job's own log. Only a request: the job alone writes weights, and its word is waited for, at most `wait_s`. A request that nobody
    answers stays: a job that starts later carries it out before it scores anything. StateError when the version is
    not kept, when the job refuses, or when somebody else asked for something else meanwhile.
    """
    learning = learner(config, name, spark)
    target = _target(learning, to)
    command = Command(uuid.uuid4().hex, to, by=by)
    learning.log.commands.ask(command)
    state = files.folder(config.state, spark)
    deadline = time.monotonic() + wait_s
    while True:
        # Asked before the answer is looked for: a job that answers and ends between the two has still answered.
        alive = is_claimed(state, "learn")
        answer = learning.log.commands.answer_to(command.id)
        if answer is not None and answer.refused is not None:
            raise StateError(answer.refused)
        if answer is not None:
            return Reply(answer.version, "in force")
        if learning.log.commands.replaced(command):
            raise StateError(
                f"learner {name}: another request came before the job saw this one; look at `streaming versions` and ask again"
            )
        if alive is False:
            return Reply(target.meta.version, "no job")
        if time.monotonic() >= deadline:
            return Reply(target.meta.version, "silent")
        time.sleep(_LOOK_EVERY_S)


def _target(learning: Learning, to: str | None) -> Snapshot:
    """The state that is asked for, as far as can be told before the job has seen it."""
    target = learning.log.newest() if to is None else learning.log.version(to)
    if target is None:
        raise StateError(f"learner {learning.name}: has no state yet; start the job first")
    if to is None and target.meta.frozen is None:
        raise StateError(
            f"learner {learning.name}: is not frozen; to take back a version name it: streaming rollback CONFIG {learning.name} --to VERSION"
        )
    return target


def weights_of(learning: Learning, version: str | None) -> tuple[str, Weights]:
    """The weights of a version, or of the newest. StateError when there are none."""
    snapshot = learning.log.newest() if version is None else learning.log.version(version)
    weights = None if snapshot is None else learning.weights(snapshot)
    if snapshot is None or weights is None or snapshot.meta.version is None:
        raise StateError(
            f"learner {learning.name}: has learned nothing yet, or has no weights to export ({type(learning.learner).__name__})"
        )
    return snapshot.meta.version, weights
