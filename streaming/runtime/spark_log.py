"""What the JVM says, in a file, with every secret masked: its log goes through this process, which alone knows them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO, Final

from streaming import secrets

_MOST_BYTES: Final = 50 << 20
_KEPT: Final = 2
#: A line may be this long; a longer one is cut in pieces, and a secret that lies across a cut is not seen.
_LINE_BYTES: Final = 1 << 20


@contextmanager
def redacted(log: Path | None) -> Iterator[int]:
    """A file descriptor for the stderr of a JVM. What is written there stands in `log`, or on our own stderr, without secrets.

    The descriptor is closed with the block, when the JVM has its own; its lines are read for as long as it lives.
    """
    target = logging.StreamHandler() if log is None else _file(log)
    reader, writer = os.pipe()
    threading.Thread(target=_copy, args=(os.fdopen(reader, "rb"), target), name="spark log", daemon=True).start()
    try:
        yield writer
    finally:
        os.close(writer)


def _file(log: Path) -> logging.Handler:
    """Made with mode 0600; the one before is kept twice."""
    with suppress(FileExistsError):
        os.close(os.open(log, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return RotatingFileHandler(log, maxBytes=_MOST_BYTES, backupCount=_KEPT, encoding="utf-8", errors="replace")


def _copy(lines: BinaryIO, target: logging.Handler) -> None:
    """Until the JVM ends. A line that cannot be written is lost, as it would be with the JVM's own writer; the JVM never waits for a disk that is full."""
    with lines:
        while line := lines.readline(_LINE_BYTES):
            text = secrets.redact(line.decode(errors="replace").rstrip("\n"))
            with suppress(OSError, ValueError):
                target.emit(logging.makeLogRecord({"msg": text}))
    target.close()
