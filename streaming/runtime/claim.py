"""Which process may run a lane on a state folder: one at a time, held for as long as it lives.

Two would write one checkpoint and answer every event twice, until one of them dies of it.

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
from pathlib import Path
from typing import Final

from streaming.errors import TransientError
from streaming.runtime.files import Folder, LocalFolder

#: A look at the lock holds it for microseconds; a job that just stops, for a little longer.
_PATIENCE_S: Final = 2.0


@contextmanager
def claim(state: Folder, lane: str) -> Iterator[None]:
    """Be the one process that runs the lane on this state folder. TransientError when another one does: it may be about to end."""
    if not isinstance(state, LocalFolder):
        yield
        return
    state.path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_file(state, lane), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{state.path}: another process runs the lane {lane} on this state folder; stop it first, or give this job a state "
                    "folder of its own"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_claimed(state: Folder, lane: str) -> bool | None:
    """Whether a process that runs the lane on this state folder is alive now; None where that cannot be known."""
    if not isinstance(state, LocalFolder):
        return None
    try:
        descriptor = os.open(_file(state, lane), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _file(state: LocalFolder, lane: str) -> Path:
    """That of LEARN has the name that older versions know: beside one of these, no other must learn."""
    return state.path / (".writer" if lane == "learn" else f".writer-{lane}")


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
