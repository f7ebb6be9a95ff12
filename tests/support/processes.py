"""Nothing that a test started may outlive the run: every descendant carries a mark in its environment."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from subprocess import TimeoutExpired
from typing import Final
from uuid import uuid4

import psutil

_MARK: Final = "STREAMING_TEST_RUN"
#: A process that was told to end gets this long to be gone.
_PATIENCE_S: Final = 20.0


def mark() -> str:
    """Mark this process: whatever it starts from now on, and whatever that starts, is found by the mark that is returned."""
    os.environ[_MARK] = uuid4().hex
    return os.environ[_MARK]


def close_spark() -> None:
    """End the JVM of this process's Spark session: stopping the session leaves it running until Python exits."""
    context = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    gateway = getattr(context, "_gateway", None)
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        with suppress(TimeoutExpired):
            gateway.proc.wait(_PATIENCE_S)
        context._gateway = context._jvm = None


def left(of: str, *, within_s: float = _PATIENCE_S) -> list[str]:
    """What still runs of the marked run, as lines to show; processes that are ending get `within_s`. What is left is ended."""
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if _marked(p, of)], timeout=within_s)
    lines = []
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            lines.append(f"{process.pid} {' '.join(process.cmdline())[:300]}")
            process.kill()
    return lines


def _marked(process: psutil.Process, of: str) -> bool:
    """True for a living process of the run that will not end with this one."""
    with suppress(psutil.Error):
        return process.environ().get(_MARK) == of and process.status() != psutil.STATUS_ZOMBIE and not _ends_with_us(process)
    return False


def _ends_with_us(process: psutil.Process) -> bool:
    """Python's resource tracker, and the JVM that PMML's library keeps: children of this process that end when it does."""
    return process.ppid() == os.getpid() and any(word in " ".join(process.cmdline()) for word in ("resource_tracker", "py4j.GatewayServer"))
