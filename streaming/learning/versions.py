"""What operators do with the versions of a learner: list, roll back, resume, export."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from pyspark.sql import SparkSession

from streaming.config.load import Config
from streaming.errors import ConfigError, StateError
from streaming.learning import state_file, weights_file
from streaming.learning.state_log import Command, Meta, Snapshot
from streaming.learning.teach import Learning, open_learners
from streaming.online.weights import Weights
from streaming.runtime import files

Session = Callable[[], SparkSession]


def learner(config: Config, name: str, spark: Session) -> Learning:
    """A configured learner with its log. ConfigError names the learners there are."""
    found = open_learners(config, files.folder(config.state, spark))
    chosen = next((one for one in found if one.name == name), None)
    if chosen is None:
        raise ConfigError(f"no learner {name!r} in this configuration; there are: {', '.join(one.name for one in found) or 'none'}")
    return chosen


def history(one: Learning) -> list[Meta]:
    """What is known of the kept states that changed the weights or froze the learner, oldest first."""
    metas = [one.log.get(batch).meta for batch in one.log.batches()]
    return [meta for meta in metas if meta.learned or meta.frozen or meta.command]


def rollback(config: Config, name: str, *, to: str | None, spark: Session) -> Snapshot:
    """Ask the job to learn on from version `to` (None: from where it is, if it is frozen), and put its weights in force at once.

    The job carries the command out with its next batch of labels; the score lane sees the weights with its next batch
    of events. StateError when the version is not kept.
    """
    one = learner(config, name, spark)
    target = one.log.newest() if to is None else one.log.version(to)
    if target is None:
        raise StateError(f"learner {name}: has no state yet; start the job first")
    if to is None and target.meta.frozen is None:
        raise StateError(f"learner {name}: is not frozen; to take back a version name it: streaming rollback CONFIG {name} --to VERSION")
    one.log.ask(Command(uuid.uuid4().hex, to))
    state = files.folder(config.state, spark)
    if target.meta.version is None:
        return target
    weights = one.weights(target)
    if name in state_file.names(config.learners):
        state_file.publish(state, name, target.meta.version, one.state_of(target))
    elif weights is not None:
        weights_file.publish(state, config.events.topic, weights_file.read(state) | {name: (target.meta.version, weights)})
    return target


def weights_of(one: Learning, version: str | None) -> tuple[str, Weights]:
    """The weights of a version, or of the newest. StateError when there are none."""
    snapshot = one.log.newest() if version is None else one.log.version(version)
    weights = None if snapshot is None else one.weights(snapshot)
    if snapshot is None or weights is None or snapshot.meta.version is None:
        raise StateError(f"learner {one.name}: has learned nothing yet, or has no weights to export ({type(one.learner).__name__})")
    return snapshot.meta.version, weights
