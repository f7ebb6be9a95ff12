"""The job inside the process of the tests, over their session: every lane as `serve` runs it, without a JVM of its own.

A process costs a cold start of twenty seconds on two cores. Tests of kills, signals and exit codes need one
(:class:`tests.support.job.Job`); tests of what becomes of records do not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from streaming import config as cfg
from streaming.job import service
from streaming.runtime import session
from tests.support.job import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class InsideJob:
    """`service.serve` in a thread. What it logs is in `text()`, what it raised is raised again by whoever waits for it."""

    def __init__(self, config: cfg.Config, lanes: Collection[str] | None = None) -> None:
        self._config, self._lanes, self._asked, self._lines = config, lanes, threading.Event(), list[str]()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"job {config.name}")

    def start(self) -> InsideJob:
        self._thread.start()
        return self

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Wait until something is true, and fail at once when the job has ended; whoever fails shows what the job said last."""
        try:
            wait_until(lambda: true() or not self._thread.is_alive(), what)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.text()[-6000:]}") from late
        if self._failed is not None:
            raise AssertionError(f"the job ended before: {what}") from self._failed
        assert true(), f"the job ended before: {what}\n{self.text()[-3000:]}"

    def stop(self) -> None:
        """Ask it to stop and wait until it has; raises what ended it before."""
        self._asked.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"the job does not stop\n{self.text()[-3000:]}"
        if self._failed is not None:
            raise self._failed

    def text(self) -> str:
        return "\n".join(self._lines)

    def _run(self) -> None:
        lines = _Lines(self._lines)
        ours = logging.getLogger("streaming")
        level = ours.level
        ours.addHandler(lines)
        ours.setLevel(logging.INFO)
        try:
            service.serve(self._config, lanes=self._lanes, stop=self._asked, source="job.yaml")
        except BaseException as failed:
            self._failed = failed
        finally:
            ours.setLevel(level)
            ours.removeHandler(lines)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))  # with the stack trace, where there is one


class Inside(Protocol):
    """`with inside(tree) as job`; `lanes`: these alone."""

    def __call__(self, tree: dict[str, Any], lanes: Collection[str] | None = None) -> AbstractContextManager[InsideJob]: ...


def over(spark: SparkSession, patch: pytest.MonkeyPatch) -> Inside:
    """`with inside(tree) as job`: a job over `spark` that has ended when the block ends, whatever happened in it."""
    patch.setattr(session, "running", lambda *_, **__: nullcontext(spark))

    @contextmanager
    def inside(tree: dict[str, Any], lanes: Collection[str] | None = None) -> Iterator[InsideJob]:
        job = InsideJob(cfg.parse(tree, source="job.yaml"), lanes).start()
        try:
            yield job
        finally:
            job._asked.set()
            job._thread.join(PATIENCE_S)

    return inside
