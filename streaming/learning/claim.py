"""Which process may write what the learners remember: one at a time, held for as long as it lives.

A lock of the operating system, so that kill -9 ends it too, and nobody has to guess from clocks whether a job still
lives. It is a file's, hence for folders of this machine only; elsewhere nobody knows who runs, and a request is only
known to be in force when the job says so.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streaming.errors import TransientError
from streaming.runtime.files import Folder, LocalFolder

_FILE: Final = ".writer"

#: A look at the lock holds it for microseconds; a job that just stops, for a little longer.
_PATIENCE_S: Final = 2.0


@contextmanager
def claim(state: Folder) -> Iterator[None]:
    """Be the one process that learns in this state folder. TransientError when another one is."""
    if not isinstance(state, LocalFolder):
        yield
        return
    state.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state.path / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{state.path}: another job learns in this state folder; stop it first, or give this one a folder of its own"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_claimed(state: Folder) -> bool | None:
    """Whether a process that learns in this state folder is alive now; None where that cannot be known."""
    if not isinstance(state, LocalFolder):
        return None
    try:
        descriptor = os.open(state.path / _FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
