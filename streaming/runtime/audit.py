"""Who did what: one line of JSON for each act, in a file that only grows, each line bound to the one before by its hash.

A line cannot be changed, moved or taken out of the middle without :func:`verify` saying where. What a chain alone cannot
show is that its end was cut off, or that all of it was written anew: for that the newest hash is logged with each act
that is rare, and `streaming audit verify --head HASH` asks whether a hash that somebody kept still stands in the chain.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from streaming import secrets
from streaming.config.load import Config
from streaming.errors import StateError
from streaming.runtime import files

log = logging.getLogger(__name__)

#: What stands before the first line.
GENESIS: Final = "0" * 64
#: Longer words are cut: a record is a line that somebody reads.
_MOST_CHARACTERS: Final = 2_000
#: More than a line can have.
_TAIL_BYTES: Final = 1 << 17
#: An act of the log's own: what stood before it was no record.
MENDED: Final = "mended"


@dataclass(frozen=True)
class Broken:
    """A place where the chain does not hold. `line` counts from 1."""

    line: int
    why: str


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` saw: how many records, the newest hash, where the chain is broken, and lines that a crash cut."""

    records: int
    head: str
    broken: tuple[Broken, ...] = ()
    cut: tuple[int, ...] = ()
    knows_head: bool = True


@dataclass
class Act:
    """An act under way: what it is about, and what was there before and after it."""

    action: str
    about: str
    actor: str
    before: str | None = None
    after: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


def of(config: Config) -> AuditLog | None:
    """The audit log of a configuration: `audit`, else beside a state that is on this machine; None where there is none."""
    if config.audit is not None:
        return AuditLog(Path(config.audit))
    return AuditLog(files.local_path(config.state) / "audit.jsonl", demanded=False) if files.is_local(config.state) else None


def operator(name: str | None = None) -> str:
    """Who runs this process: the name they give, and always the user and host that the operating system knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = f"uid{os.getuid()}"
    own = f"{user}@{socket.gethostname()}"
    return own if name in {None, "", own} else f"{name} ({own})"


@dataclass(frozen=True)
class AuditLog:
    """The file. Any number of processes may append; one at a time does."""

    path: Path
    #: Whether what cannot be recorded must not be done: so where the configuration names the file.
    demanded: bool = True

    def append(self, act: Act, *, result: str) -> str:
        """Write one line, on disk when this returns, and give its hash. StateError when a file that was asked for cannot be written."""
        try:
            return self._append(act, result)
        except OSError as refused:
            words = f"{self.path}: the audit log cannot be written: {refused.strerror}; make room, or mend its permissions"
            if self.demanded:
                raise StateError(f"{words}: what is not recorded is not done") from refused
            log.warning("%s: %s of %s by %s is not recorded", words, act.action, act.about, act.actor)
            return ""

    def note(self, act: Act, *, result: str) -> None:
        """The same for what is done already: a line that cannot be written is an error in the log, and nothing more."""
        try:
            made = self.append(act, result=result)
        except StateError:
            log.exception("audit action=%s about=%s actor=%r result=%r is not recorded", act.action, act.about, act.actor, result)
        else:
            log.info("audit action=%s about=%s actor=%r hash=%s", act.action, act.about, act.actor, made)

    @contextmanager
    def recorded(self, act: Act) -> Iterator[Act]:
        """Record that an act begins, and what came of it. When the beginning cannot be recorded, the block does not run."""
        self.append(act, result="begun")
        try:
            yield act
        except BaseException as failed:
            self.note(act, result=f"failed: {type(failed).__name__}: {failed}")
            raise
        self.note(act, result="done")

    def _append(self, act: Act, result: str) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
            line, made = self._next(descriptor, act, result)
            _write_whole(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return made

    def lines(self) -> Iterator[bytes]:
        """The lines as they stand, without their ends; none when there is no file."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for line in file:
                yield line.rstrip(b"\n")

    def _next(self, descriptor: int, act: Act, result: str) -> tuple[bytes, str]:
        """The line to write, and its hash. A last line that is no record, or only half of one, is left and said to be none."""
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        lines = tail.split(b"\n")
        torn = lines.pop()  # what stands behind the last line end: nothing, unless a crash cut a line
        records = [record for line in (*lines[-100:], torn) if (record := _record(line)) is not None]
        written = records[-1] if records else None
        begun = b"\n" if torn else b""
        if (torn and _record(torn) is None) or (not torn and lines and _record(lines[-1]) is None):
            written = _made(Act(MENDED, "the line before", operator()), "it is no record: cut by a crash, or changed", after=written)
            begun += _text(written)
        new = _made(act, result, after=written)
        return begun + _text(new), str(new["hash"])


def verify(audit: AuditLog, *, head: str | None = None) -> Verdict:
    """Walk along the chain. Every line that does not follow from the one before is named; the walk goes on behind it."""
    last: Mapping[str, Any] = {"seq": 0, "hash": GENESIS}
    broken: list[Broken] = []
    cut: list[Broken] = []
    known = head in {None, GENESIS}
    no_record: tuple[int, bytes] | None = None
    for number, line in enumerate(audit.lines(), start=1):
        record = _record(line)
        if record is not None and no_record is not None:
            (cut if _was_cut(no_record[1], record) else broken).append(Broken(no_record[0], _NO_RECORD))
        if record is None:
            broken += [] if no_record is None else [Broken(no_record[0], _NO_RECORD)]
            no_record = number, line
            continue
        no_record = None
        if (record["prev"], record["seq"]) != (last["hash"], last["seq"] + 1):
            broken.append(Broken(number, f"does not follow the line before: number {record['seq']}, expected {last['seq'] + 1}"))
        last, known = record, known or record["hash"] == head
    broken += [] if no_record is None else [Broken(no_record[0], _NO_RECORD)]
    return Verdict(last["seq"], last["hash"], tuple(broken), tuple(each.line for each in cut), known)


_NO_RECORD: Final = "is no record, or its words are not those that its hash was made of"


def _was_cut(line: bytes, after: Mapping[str, Any]) -> bool:
    """Whether a crash may have cut the line: it is no whole JSON, and the log itself said so at its next record."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return bool(after["action"] == MENDED)
    return False


def _made(act: Act, result: str, *, after: Mapping[str, Any] | None) -> dict[str, Any]:
    record = {
        "seq": 1 if after is None else after["seq"] + 1,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "actor": _words(act.actor),
        "action": act.action,
        "about": _words(act.about),
        "before": _words(act.before),
        "after": _words(act.after),
        "result": _words(result),
        **act.more,
        "prev": GENESIS if after is None else after["hash"],
    }
    return {**record, "hash": _hash(record)}


def _words(text: str | None) -> str | None:
    return None if text is None else secrets.redact(text)[:_MOST_CHARACTERS]


def _hash(record: Mapping[str, Any]) -> str:
    """The SHA-256 of all of a record but its hash, the hash of the line before included."""
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _text(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None when it is none: not JSON, a field missing, or a hash that is not its own."""
    try:
        record = json.loads(line)
        fits = isinstance(record, dict) and isinstance(record["seq"], int) and {"prev", "action"} <= record.keys()
        return record if fits and record["hash"] == _hash(record) else None
    except (ValueError, KeyError, RecursionError):
        return None


def _write_whole(descriptor: int, line: bytes) -> None:
    """All of the line, or nothing of it when the disk is full."""
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, line) != len(line):
        os.ftruncate(descriptor, size)
        raise OSError(28, "no space left for a whole line")
