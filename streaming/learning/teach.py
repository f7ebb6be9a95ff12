"""One learner on its way through the batches: which state it starts from, what it becomes, when it is frozen.

Pure but for the StateLog: the state after batch n is a function of the state after n-1, the rows of n, and the
command that waited for n.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming import config as cfg
from streaming.errors import ConfigError, StateError
from streaming.learning.state_log import Arrays, Command, Meta, Snapshot, StateLog
from streaming.learning.summaries import Part, Rejected
from streaming.online import algorithms, metrics
from streaming.online.base import Learner, from_arrays, pack, to_arrays
from streaming.online.divergence import Baseline, Batch, Watch
from streaming.online.metrics import Tally
from streaming.online.weights import Weights
from streaming.runtime.files import Folder

__all__ = ["Before", "Learning", "Rejected", "Taught", "open_learners", "step", "teach"]

log = logging.getLogger(__name__)

#: The version of a warm start, before the first label.
WARM: Final = "warm"

#: A window is kept in about this many pieces: enough to slide smoothly, few enough for a small state.
_PIECES: Final = 20


@dataclass(frozen=True)
class Learning:
    """A configured learner with its log."""

    name: str
    learner: Learner[Any, Any]
    log: StateLog
    window: int
    start: Snapshot

    def before(self, n: int) -> Before:
        """What batch `n` starts from: the state after n-1, or what a waiting command says. StateError if it is missing."""
        self.log.begin(n, self.start)
        previous = self.log.get(n - 1)
        command = self.log.asked()
        if command is None or command.id == previous.meta.command:
            return Before(previous, previous.meta.batch, previous.meta.frozen, None)
        base = previous if command.to is None else self.log.version(command.to)
        return Before(replace(base, extra=_fresh_watch(previous.extra)), base.meta.batch, None, command)

    def state_of(self, snapshot: Snapshot) -> Any | None:
        """The learner's own state in a snapshot; None while it has never seen a row."""
        return from_arrays(self.learner.state_type, snapshot.state) if snapshot.state else None

    def weights(self, snapshot: Snapshot) -> Weights | None:
        """What the score lane evaluates; None while there is nothing to evaluate, or no such form."""
        state = self.state_of(snapshot)
        return None if state is None else self.learner.weights(state)

    def tidy(self, n: int, snapshot: Snapshot) -> None:
        """Forget a command that was carried out, and old states."""
        command = self.log.asked()
        if command is not None and command.id == snapshot.meta.command:
            self.log.done(command)
        self.log.thin(n)


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

    def packed(self, one: Learning) -> bytes | None:
        """The learner's state as bytes, to travel to the rows; None while it has never seen a row."""
        state = one.state_of(self.snapshot)
        return None if state is None else pack(state)


@dataclass(frozen=True, eq=False)
class Taught:
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
    config: cfg.Config, state: Folder, *, warm: Mapping[str, Weights] | None = None, source: str = "config"
) -> list[Learning]:
    """The learners of a config. `warm`: coefficients to start from, by learner. ConfigError on wrong parameters."""
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
        opened.append(Learning(section.name, learner, StateLog(state.below("learners"), section.name), section.window, start))
    return opened


def teach(one: Learning, n: int, before: Before, parts: Sequence[Part]) -> Taught:
    """Make the state after batch `n` and write it; when it is there already, that one stands."""
    after, skipped = step(one, n, before, parts)
    after = _judge(one, n, before, after)
    if one.log.add(n, after):
        return Taught(one.name, after, skipped, repeated=False)
    return Taught(one.name, one.log.get(n), skipped, repeated=True)


def step(one: Learning, n: int, before: Before, parts: Sequence[Part]) -> tuple[Snapshot, int]:
    """The state after batch `n`, and how many labels a frozen learner let pass. Pure."""
    given = [part.summary for part in parts if part.summary is not None]
    labelled = sum(len(part.refs) for part in parts)
    state: Arrays = before.snapshot.state
    learned = labelled if before.learns and given else 0
    if learned:
        total = reduce(one.learner.merge, given)
        own = one.state_of(before.snapshot)
        state = to_arrays(one.learner.update(own if own is not None else _initial(one, parts), total))
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
    extra = _look_back(one, before.snapshot.extra, parts)
    window = metrics.report(one.learner.labels, from_arrays(metrics.Window, extra, "window.").total())
    refs = np.concatenate([part.refs for part in parts]) if parts and learned else np.zeros((0, 4), dtype=np.int64)
    sizes = np.array([len(part.refs) for part in parts], dtype=np.int64) if learned else np.zeros(0, dtype=np.int64)
    return Snapshot(replace(meta, metrics=window), state, {**extra, "refs": refs, "sizes": sizes}), labelled - learned


def _initial(one: Learning, parts: Sequence[Part]) -> Any:
    """The state before the first row ever; its width is that of the features the parts saw."""
    widths = {part.width for part in parts if part.summary is not None}
    if len(widths) != 1:
        raise StateError(
            f"learner {one.name}: the events of one batch have {sorted(widths)} features; expected one width from one saved pipeline"
        )
    return one.learner.init(widths.pop())


def _look_back(one: Learning, old: Arrays, parts: Sequence[Part]) -> dict[str, NDArray[Any]]:
    """The windows after this batch: metrics, the baseline's memory, and the watch that compares the two."""
    window = from_arrays(metrics.Window, old, "window.") if "window.batches" in old else metrics.Window(one.window)
    baseline = from_arrays(Baseline, old, "baseline.") if "baseline.n" in old else Baseline.start(one.learner.classes)
    watch = from_arrays(Watch, old, "watch.") if "watch.batches" in old else Watch(window=one.window)
    tally = reduce(metrics.merge, (part.tally for part in parts), metrics.nothing())
    y = np.concatenate([part.y for part in parts]) if parts else np.zeros(0)
    if tally.n:
        dull = float(baseline.losses(one.learner.labels, y).sum())
        watch = watch.update(Batch(tally.n, tally.loss, dull))
        watch = replace(watch, batches=_few(watch.batches, one.window))
        baseline = baseline.learn(y)
        window = _pushed(window, tally)
    return {**to_arrays(window, "window."), **to_arrays(baseline, "baseline."), **to_arrays(watch, "watch.")}


def _pushed(window: metrics.Window, tally: Tally) -> metrics.Window:
    """The window with one more batch; small batches are added to the last piece, so that there are few pieces."""
    if window.batches and window.batches[-1].n < window.rows // _PIECES:
        return replace(window, batches=(*window.batches[:-1], metrics.merge(window.batches[-1], tally)))
    return window.push(tally)


def _few(batches: tuple[Batch, ...], rows: int) -> tuple[Batch, ...]:
    if len(batches) > 1 and batches[-2].n < rows // _PIECES:
        a, b = batches[-2:]
        return (*batches[:-2], Batch(a.n + b.n, a.loss + b.loss, a.baseline + b.baseline))
    return batches


def _fresh_watch(extra: Arrays) -> Arrays:
    """After a command the learner is judged anew: the losses that froze it do not count against what it does next."""
    return {name: array for name, array in extra.items() if not name.startswith("watch.")}


def _judge(one: Learning, n: int, before: Before, after: Snapshot) -> Snapshot:
    """Freeze the learner when it does worse than the dullest predictor over a window, and take back the last good version."""
    if after.meta.frozen is not None or one.learner.labels == "none":
        return after
    verdict = from_arrays(Watch, after.extra, "watch.").verdict(one.weights(after))
    if verdict.status == "ok":
        return after
    good = _last_good(one, before)
    log.error(
        "learner=%s batch=%d frozen: %s; version %s is in force; learn on with: streaming resume CONFIG %s (or streaming rollback)",
        one.name, n, verdict.reason, good.meta.version, one.name,
    )  # fmt: skip
    meta = replace(after.meta, version=good.meta.version, frozen=verdict.reason, base=good.meta.batch)
    return Snapshot(meta, good.state, after.extra)


def _last_good(one: Learning, before: Before) -> Snapshot:
    """The newest kept state on the way here whose window was no worse than the baseline; else the state before this batch."""
    line = before.snapshot.meta.batch
    for batch in reversed(one.log.batches()):
        if batch <= line:
            found = one.log.get(batch)
            watch = from_arrays(Watch, found.extra, "watch.")
            if watch.batches and sum(b.loss for b in watch.batches) <= sum(b.baseline for b in watch.batches):
                return found
            # The states between a rollback and its target were left on purpose: they must not come back.
            line = found.meta.base
    return before.snapshot
