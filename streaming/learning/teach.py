"""One learner on its way through the batches: which state it starts from, what it becomes, when it is frozen.

Pure but for the StateLog: the state after batch n is a function of the state after n-1, the rows of n, and the
command that waited for n.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import numpy as np

from streaming import config as cfg
from streaming.errors import ConfigError, StateError
from streaming.learning import origin
from streaming.learning.commands import Command
from streaming.learning.origin import Origin
from streaming.learning.state_log import WARM, Arrays, Ends, Meta, Snapshot, StateLog
from streaming.learning.summaries import PartitionSummary, Rejected
from streaming.online import algorithms, metrics
from streaming.online.base import Learner, from_arrays, pack, to_arrays
from streaming.online.look_back import LookBack
from streaming.online.weights import Weights
from streaming.runtime.files import Folder

__all__ = ["Before", "Learned", "Learning", "Rejected", "open_learners", "step", "teach"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learning:
    """A configured learner with its log."""

    name: str
    learner: Learner[Any, Any]
    log: StateLog
    window: int
    start: Snapshot
    #: Whether Python scores it, from its whole state (streaming.learning.state_file), not Spark from its weights.
    by_python: bool = False
    #: Where the states come from, as it stood when the job began, and what is learned on now.
    origin: Origin = field(default_factory=Origin)
    learned_on: Mapping[str, str] = field(default_factory=dict)

    def number(self, batch: int) -> int:
        """The number in the log of the state after a batch of the query."""
        return batch + self.origin.shift

    def tie(self, query: str | None) -> Origin:
        """The origin of a log that goes on with the batches of `query`. StateError when it cannot."""
        known = origin.read(self.log.learners, self.name)
        return origin.tied(known, learner=self.name, begun=self.log.has_begun, query=query, learned_on=self.learned_on)

    def settle(self, query: str) -> None:
        """Write down what :meth:`tie` found, before the first batch is learned."""
        origin.write(self.log.learners, self.name, self.tie(query))

    def before(self, n: int) -> Before:
        """What batch `n` starts from: the state after n-1, or what an accepted command says. StateError if it is missing."""
        self.log.begin(n, self.start)
        previous = self.log.get(n - 1)
        command = self.unlearned(previous)
        if command is None:
            return Before(previous, previous.meta.batch, previous.meta.frozen, None)
        base = self.target(command, previous)
        anew = {**previous.extra, **self.look_back(previous).judged_anew().to_arrays()}
        return Before(replace(base, extra=anew), base.meta.batch, command.freeze, command)

    def newest(self) -> Snapshot:
        """The newest state, or the one to start from."""
        return self.log.newest() or self.start

    def unlearned(self, snapshot: Snapshot) -> Command | None:
        """The command that is in force, unless `snapshot` was already learned from it."""
        command = self.log.commands.accepted()
        return None if command is None or command.id == snapshot.meta.command else command

    def target(self, command: Command, snapshot: Snapshot) -> Snapshot:
        """The state that a command asks for, when `snapshot` is the newest. StateError when it is not kept."""
        return snapshot if command.to is None else self.log.version(command.to)

    def in_force(self, snapshot: Snapshot) -> Snapshot:
        """The state to score with when `snapshot` is the newest: a command that was confirmed goes before it."""
        command = self.unlearned(snapshot)
        return snapshot if command is None else self.target(command, snapshot)

    def look_back(self, snapshot: Snapshot) -> LookBack:
        """What is remembered of the past in a snapshot."""
        return LookBack.from_arrays(snapshot.extra, self.window, self.learner.classes)

    def state_of(self, snapshot: Snapshot) -> Any | None:
        """The learner's own state in a snapshot; None while it has never seen a row."""
        return from_arrays(self.learner.state_type, snapshot.state) if snapshot.state else None

    def weights(self, snapshot: Snapshot) -> Weights | None:
        """What the score lane evaluates; None while there is nothing to evaluate, or no such form."""
        state = self.state_of(snapshot)
        return None if state is None else self.learner.weights(state)

    def tidy(self, n: int, snapshot: Snapshot) -> None:
        """Forget old states, but for the one that a command waits to learn from."""
        commands = (self.unlearned(snapshot), self.log.commands.waiting())
        targets = [self.log.find(c.to) for c in commands if c is not None and c.to is not None]
        self.log.thin(n, spare={target.meta.batch for target in targets if target is not None})


@dataclass(frozen=True, eq=False)
class Before:
    """What a batch starts from. `frozen`: why the learner does not learn; `command`: carried out by this batch."""

    snapshot: Snapshot
    base: int
    frozen: str | None
    command: Command | None

    @property
    def learns(self) -> bool:
        """Whether this batch moves the weights."""
        return self.frozen is None

    def packed(self, learning: Learning) -> bytes | None:
        """The learner's state as bytes, to travel to the rows; None while it has never seen a row."""
        state = learning.state_of(self.snapshot)
        return None if state is None else pack(state)


@dataclass(frozen=True, eq=False)
class Learned:
    """The outcome of one batch for one learner. `repeated`: the batch had been learned before, nothing changed."""

    name: str
    snapshot: Snapshot
    skipped: int
    repeated: bool

    def line(self) -> str:
        """The log line."""
        meta = self.snapshot.meta
        numbers = " ".join(f"{name}={value:.4f}" for name, value in meta.metrics.items())
        tail = f" frozen={meta.frozen!r}" if meta.frozen else ""
        tail += " repeated=yes" if self.repeated else ""
        return f"learner={self.name} batch={meta.batch} version={meta.version or 'none'} learned={meta.learned} skipped={self.skipped} total={meta.total} {numbers}{tail}"


def open_learners(
    config: cfg.Config, state: Folder, *, warm: Mapping[str, Weights] | None = None, source: str = "config", features: str | None = None
) -> list[Learning]:
    """The learners of a config. `warm`: coefficients to start from, by learner. ConfigError on wrong parameters.

    `features`: the fingerprint of what makes the features, where it is known.
    """
    opened = []
    for i, section in enumerate(config.learners):
        try:
            learner = algorithms.make(section.algorithm, section.params)
        except ValueError as wrong:
            raise ConfigError(f"{source}: learners.{i}: {wrong}") from wrong
        if learner.sequential and config.learn.partitions > 1:
            raise ConfigError(
                f"{source}: learn.partitions: got {config.learn.partitions}, but {section.name} ({section.algorithm}) learns row by row; set it to 1"
            )
        start = Snapshot(Meta(-1, None), {})
        if warm is not None and section.name in warm:
            try:
                start = Snapshot(Meta(-1, WARM), to_arrays(learner.warm(warm[section.name])))
            except ValueError as wrong:
                raise ConfigError(f"{source}: learners.{i}.warm_start: {wrong}") from wrong
        log_of = StateLog(state.below("learners"), section.name)
        opened.append(
            Learning(
                section.name,
                learner,
                log_of,
                section.window,
                start,
                by_python=section.algorithm in algorithms.OPAQUE,
                origin=origin.read(log_of.learners, section.name),
                learned_on=origin.of_section(section.algorithm, section.params, features=features),
            )
        )
    return opened


def teach(learning: Learning, n: int, before: Before, parts: Sequence[PartitionSummary], *, ends: Ends | None = None) -> Learned:
    """Make the state after batch `n` and write it; when it is there already, that one stands.

    `ends`: how far the batch reads. StateError when the state that stands is that of a batch that read elsewhere.
    """
    after, skipped = step(learning, n, before, parts)
    after = _judge(learning, n, before, after)
    after = after.reading_to(ends) if ends else after
    if learning.log.add(n, after):
        return Learned(learning.name, after, skipped, repeated=False)
    stands = learning.log.get(n)
    if ends and stands.read_to and stands.read_to != ends:
        raise StateError(
            f"learner {learning.name}: the state after batch {n} is of other records than this batch has: checkpoints/learn is not the one that it "
            f"was learned with (a backup?); restore the right one, or delete checkpoints/learn and run: streaming learner migrate CONFIG {learning.name}"
        )
    return Learned(learning.name, stands, skipped, repeated=True)


def step(learning: Learning, n: int, before: Before, parts: Sequence[PartitionSummary]) -> tuple[Snapshot, int]:
    """The state after batch `n`, and how many labels a frozen learner let pass. Pure."""
    given = [part.summary for part in parts if part.summary is not None]
    labelled = sum(len(part.refs) for part in parts)
    state: Arrays = before.snapshot.state
    learned = labelled if before.learns and given else 0
    if learned:
        total = reduce(learning.learner.merge, given)
        own = learning.state_of(before.snapshot)
        state = to_arrays(learning.learner.update(own if own is not None else _initial(learning, parts), total))
    old = before.snapshot.meta
    meta = Meta(
        batch=n,
        version=str(n) if learned else old.version,
        learned=learned,
        total=old.total + learned,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        frozen=before.frozen,
        base=before.base,
        command=before.command.id if before.command is not None else old.command,
    )
    past = _after(learning, learning.look_back(before.snapshot), parts)
    refs = np.concatenate([part.refs for part in parts]) if parts and learned else np.zeros((0, 4), dtype=np.int64)
    sizes = np.array([len(part.refs) for part in parts], dtype=np.int64) if learned else np.zeros(0, dtype=np.int64)
    extra = {**past.to_arrays(), "refs": refs, "sizes": sizes}
    return Snapshot(replace(meta, metrics=past.report(learning.learner.labels)), state, extra), labelled - learned


def _after(learning: Learning, past: LookBack, parts: Sequence[PartitionSummary]) -> LookBack:
    """What is remembered after this batch."""
    tally = reduce(metrics.merge, (part.tally for part in parts), metrics.nothing())
    return past.after(learning.learner.labels, tally, np.concatenate([part.y for part in parts]) if parts else np.zeros(0))


def _initial(learning: Learning, parts: Sequence[PartitionSummary]) -> Any:
    """The state before the first row ever; its width is that of the features the parts saw."""
    widths = {part.width for part in parts if part.summary is not None}
    if len(widths) != 1:
        raise StateError(
            f"learner {learning.name}: the events of one batch have {sorted(widths)} features; expected one width from one saved pipeline"
        )
    return learning.learner.init(widths.pop())


def _judge(learning: Learning, n: int, before: Before, after: Snapshot) -> Snapshot:
    """Freeze the learner when it does worse than the dullest predictor over a window, and take back the last good version."""
    if after.meta.frozen is not None or learning.learner.labels == "none":
        return after
    verdict = learning.look_back(after).verdict(learning.weights(after))
    if verdict.status == "ok":
        return after
    good = _last_good(learning, before)
    log.error(
        "learner=%s batch=%d frozen: %s; version %s is in force; learn on with: streaming resume CONFIG %s (or streaming rollback)",
        learning.name, n, verdict.reason, good.meta.version, learning.name,
    )  # fmt: skip
    meta = replace(after.meta, version=good.meta.version, frozen=verdict.reason, base=good.meta.batch)
    return Snapshot(meta, good.state, after.extra)


def _last_good(learning: Learning, before: Before) -> Snapshot:
    """The newest kept state on the way here whose window was no worse than the baseline; else the state before this batch."""
    line = before.snapshot.meta.batch
    for batch in reversed(learning.log.batches()):
        if batch <= line:
            snapshot = learning.log.get(batch)
            if learning.look_back(snapshot).good:
                return snapshot
            # The states between a rollback and its target were left on purpose: they must not come back.
            line = snapshot.meta.base
    return before.snapshot
