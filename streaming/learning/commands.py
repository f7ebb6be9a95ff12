"""What people ask of a running job, and the job's word: a request is left in the state, the job alone carries it out.

One set of files a learner, beside its states; each has one writer, and none is ever deleted, so that no request can be
lost to a deletion that was meant for another:

    command.json   the newest request, written by `streaming rollback` and `resume`
    accepted.json  the request that the job has decided to carry out: from here on it is in force
    answers.json   the job's word on the newest requests: the version that is in force, or why not
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, TypeVar

from streaming.runtime.files import Folder

T = TypeVar("T")

#: Answers that are kept: as many people as will ever ask at the same moment.
_ANSWERS: Final = 20


@dataclass(frozen=True)
class Command:
    """What an operator asked for: take the state of `to` (a version; None: stay) and learn on from there.

    `freeze`: why the learner is to learn no more, until somebody asks for it again; asked by an alert.
    """

    id: str
    to: str | None
    freeze: str | None = None
    #: Who asked, in words.
    by: str = ""


@dataclass(frozen=True)
class JobAnswer:
    """The job's word on the command `id`: the version that is now in force, or why the command was `refused`."""

    id: str
    version: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Commands:
    """The requests of one learner, in the learner's own folder."""

    folder: Folder

    def ask(self, command: Command) -> None:
        """Leave a request; one that the job has not seen yet is replaced."""
        self.folder.replace("command.json", json.dumps(asdict(command)).encode())

    def waiting(self) -> Command | None:
        """The request that the job has not answered yet, if any."""
        asked = self._read("command.json", Command)
        return asked if asked is not None and self.answer_to(asked.id) is None else None

    def accept(self, command: Command) -> None:
        """Decide to carry out a request. For the job alone."""
        self.folder.replace("accepted.json", json.dumps(asdict(command)).encode())

    def accepted(self) -> Command | None:
        """The last request that the job decided to carry out."""
        return self._read("accepted.json", Command)

    def answer(self, answer: JobAnswer) -> None:
        """Give the job's word. For the job alone."""
        kept = [a for a in self._answers() if a.id != answer.id][-_ANSWERS + 1 :]
        self.folder.replace("answers.json", json.dumps([asdict(a) for a in (*kept, answer)]).encode())

    def answer_to(self, command: str) -> JobAnswer | None:
        """The job's word on the command with this id; None while there is none."""
        return next((a for a in self._answers() if a.id == command), None)

    def replaced(self, command: Command) -> bool:
        """Whether a later request took the place of one that the job never answered."""
        asked = self._read("command.json", Command)
        return asked != command and self.answer_to(command.id) is None

    def _answers(self) -> list[JobAnswer]:
        content = self.folder.read("answers.json")
        return [] if content is None else [_made(JobAnswer, entry) for entry in json.loads(content)]

    def _read(self, name: str, kind: type[T]) -> T | None:
        content = self.folder.read(name)
        return None if content is None else _made(kind, json.loads(content))


def _made(kind: type[T], entry: Mapping[str, Any]) -> T:
    """A value from its JSON; fields that a later version has added are left out."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in entry.items() if name in known})
