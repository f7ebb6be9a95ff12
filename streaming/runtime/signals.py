"""SIGTERM and Ctrl-C become an event that a loop looks at, in a process of our own and under spark-submit."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set: the job then stops between batches where that can be had, and ends with exit code 0."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def on_sigterm(active: SparkSession, do: Callable[[], None]) -> None:
    """Under spark-submit the signal goes to the JVM, whose habit is to die with code 143; let it tell us instead."""
    from pyspark.java_gateway import ensure_callback_server_started

    class Handler:
        def handle(self, signal: object) -> None:
            do()

        class Java:
            implements = ("sun.misc.SignalHandler",)

    gateway: Any = active.sparkContext._gateway
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    for name in ("TERM", "INT"):
        gateway.jvm.sun.misc.Signal.handle(gateway.jvm.sun.misc.Signal(name), Handler())
