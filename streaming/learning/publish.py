"""The only writer of what the score lane reads of its learners: the weights file, and the states that Python scores.

One job writes, and within it one call at a time, whichever thread makes it: a batch that ends, the watcher that carries
out what people asked for, or the start. Each writes for every learner the state that is in force *then*: the newest,
unless a command was accepted that no state has been learned from yet. So a batch that was in flight when a command was
confirmed publishes what the command said, not its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from streaming.errors import StateError
from streaming.learning import state_file, weights_file
from streaming.learning.commands import Command, JobAnswer
from streaming.learning.state_log import Snapshot
from streaming.learning.teach import Learning
from streaming.online.weights import Weights
from streaming.runtime.audit import Act, AuditLog
from streaming.runtime.files import Folder

log = logging.getLogger(__name__)


class Publisher:
    """Puts states of these learners in force. `topic`: the events topic, which the weights file names. `audit`: records what people asked for."""

    def __init__(self, learners: Sequence[Learning], state: Folder, topic: str, *, audit: AuditLog | None = None) -> None:
        self._audit = audit
        self.learners = learners
        self._state = state
        self._topic = topic
        self._lock = threading.Lock()
        self._settled = ""

    def start(self, *, scores: bool = True, learns: bool = True) -> None:
        """Before any lane runs: carry out what was asked for meanwhile, and put the newest states in force.

        `scores`, `learns`: whether this process runs that lane. A process that only scores leaves a file that has
        room as it is, for another writes it; one that only learns leaves its length, for another reads it.
        """
        with self._lock:
            if learns:
                self._carry_out()
            newest = [learning.newest() for learning in self.learners]
            if learns or self._lacks_room(newest):
                self._write(newest, restart=scores)

    def publish(self, snapshots: Sequence[Snapshot]) -> None:
        """Put the states of a batch in force, one for each learner; where a command goes before, what it asked for."""
        with self._lock:
            self._write(snapshots)

    def carry_out(self) -> list[JobAnswer]:
        """Put in force what people asked for since the last call, and give the job's word. Safe beside a running batch."""
        with self._lock:
            return self._carry_out()

    def tidy(self, snapshots: Sequence[Snapshot]) -> None:
        """Forget old states after the batch that made these, but none that a command waits for."""
        with self._lock:
            for learning, snapshot in zip(self.learners, snapshots, strict=True):
                learning.tidy(snapshot.meta.batch, snapshot)

    def settle(self, query: str) -> None:
        """Before a batch of `query` is learned: its states belong to these logs, once and for all. StateError when they do not."""
        if query != self._settled:
            for learning in self.learners:
                learning.settle(query)
            self._settled = query

    def _carry_out(self) -> list[JobAnswer]:
        waiting = [(learning, command) for learning in self.learners if (command := learning.log.commands.waiting()) is not None]
        # Step 1. Decided: from here on every state that is published, by whomever, is what the command asks for.
        answers = [_decide(learning, command) for learning, command in waiting]
        # Step 2. In force. A crash before this is mended at the next start, before anything is scored.
        if waiting:
            self._write([learning.newest() for learning in self.learners])
        # Step 3. Confirmed. A crash before this carries the command out once more, which changes nothing.
        for (learning, command), answer in zip(waiting, answers, strict=True):
            learning.log.commands.answer(answer)
            log.info("%s", _line(learning, command, answer))
            if self._audit is not None:
                about = Act("carry out", f"learner {learning.name}, command {command.id}", command.by or "unknown", after=answer.version)
                self._audit.note(about, result="in force" if answer.refused is None else f"refused: {answer.refused}")
        return answers

    def _lacks_room(self, newest: Sequence[Snapshot]) -> bool:
        return not weights_file.has_room(self._state, self._topic, self._weights(newest))

    def _write(self, newest: Sequence[Snapshot], *, restart: bool = False) -> None:
        for learning, snapshot in zip(self.learners, newest, strict=True):
            in_force = learning.in_force(snapshot)
            if learning.by_python and in_force.meta.version is not None:
                state_file.publish(self._state, learning.name, in_force.meta.version, learning.state_of(in_force))
        weights_file.publish(self._state, self._topic, self._weights(newest), restart=restart)

    def _weights(self, newest: Sequence[Snapshot]) -> dict[str, tuple[str, Weights]]:
        """What the weights file has to hold; learners that know nothing yet are left out."""
        in_force = {
            learning.name: (learning, learning.in_force(snapshot)) for learning, snapshot in zip(self.learners, newest, strict=True)
        }
        made = {name: (snapshot.meta.version, learning.weights(snapshot)) for name, (learning, snapshot) in in_force.items()}
        return {name: (version, w) for name, (version, w) in made.items() if version is not None and w is not None and w.finite}


def _decide(learning: Learning, command: Command) -> JobAnswer:
    """Accept a command, or say why not. A command that a state was already learned from is only confirmed."""
    newest = learning.newest()
    if command.id == newest.meta.command:
        return JobAnswer(command.id, newest.meta.version)
    earlier = learning.unlearned(newest)
    if command.to is None and earlier is not None:
        command = replace(command, to=earlier.to)
    try:
        target = learning.target(command, newest)
    except StateError as error:
        return JobAnswer(command.id, refused=str(error))
    learning.log.commands.accept(command)
    return JobAnswer(command.id, target.meta.version)


def _line(learning: Learning, command: Command, answer: JobAnswer) -> str:
    outcome = f"version={answer.version or 'none'} in_force=yes" if answer.refused is None else f"refused={answer.refused!r}"
    return f"learner={learning.name} command={answer.id} by={command.by!r} {outcome}"
