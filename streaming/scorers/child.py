"""A model in a process of its own: it has no secrets, only so much memory, and only so much time for an answer.

Opening a model file is parsing what somebody else wrote, and some formats compute for ever when they are told to. Here
the worst that a file can do is to end its own process: the caller gets a ModelError, and the next call starts anew.

Not a sandbox: the process has the rights of its user. What may be opened at all is decided by the readers.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from streaming.config.sections import SavedModel
from streaming.config.values import seconds, size
from streaming.errors import EnvironmentFailure, ModelError, StreamingError
from streaming.scorers import wire
from streaming.scorers.base import ColumnKind, Columns, Scores
from streaming.scorers.files import Package

#: All that a model's process gets to know of the environment: where programs and libraries are, and how text is spelled.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "LD_LIBRARY_PATH", "SYSTEMROOT")
_ERRORS: Final[Mapping[str, Callable[[str], StreamingError]]] = {"EnvironmentFailure": EnvironmentFailure}
_CHUNK: Final = 1 << 20


@dataclass
class ChildScorer:
    """A scorer in another process. Made by :func:`open_scorer`; safe to call from several threads, which wait for each other."""

    uri: str
    kinds: Mapping[str, ColumnKind]
    known: Mapping[str, list[Any]]
    linear: bool
    _process: _Process = field(repr=False)
    #: An answer may take as long as `limits.score`: an event loop must not wait for it.
    waits: ClassVar[bool] = True

    def inputs(self) -> Mapping[str, ColumnKind]:
        """See :class:`streaming.scorers.base.Scorer`."""
        return self.kinds

    def categories(self) -> Mapping[str, list[Any]]:
        """Per text column the values that the model knows."""
        return self.known

    def score(self, columns: Columns) -> Scores:
        """See :class:`streaming.scorers.base.Scorer`. ModelError, too, when the process ends, or has no answer in time."""
        answer = self._process.ask({"do": "score"}, self._sent(columns))
        try:
            return wire.scores_of(answer)
        except (ValueError, KeyError, TypeError) as broken:
            raise ModelError(f"{self.uri}: the process of the model gave no scores; save the model again") from broken

    def contributions(self, columns: Columns) -> dict[str, NDArray[np.float64]] | None:
        """Per input column what it adds to the log-odds, or to the prediction before its link. None: not linear."""
        return self._process.ask({"do": "contributions"}, self._sent(columns))[1] if self.linear else None

    def _sent(self, columns: Columns) -> dict[str, NDArray[Any]]:
        return {name: np.asarray(columns[name]) for name in self.kinds if name in columns}


def open_scorer(package: Package, section: SavedModel) -> ChildScorer:
    """The model of `package`, opened in a process of its own as `section` allows. ModelError when it may not, or cannot, be opened there."""
    process = _Process(package, section)
    said, _ = process.start()
    return ChildScorer(package.uri, said["inputs"], said["categories"], bool(said["linear"]), process)


def clean_environment(*more: str) -> dict[str, str]:
    """The environment for a process that opens models: nothing of this one's but what programs need, and what `more` names."""
    kept = {name: os.environ[name] for name in (*_ENVIRONMENT, *more) if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}


class _Process:
    """The process, started when it is needed, and ended when nobody holds this any longer."""

    def __init__(self, package: Package, section: SavedModel) -> None:
        self._package, self._section = package, section
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def start(self) -> wire.Message:
        with self._lock:
            return self._start()

    def ask(self, said: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> wire.Message:
        with self._lock:
            if self._running is None or self._running.poll() is not None:
                self._start()
            return self._exchange(wire.pack(said, arrays), seconds(self._section.limits.score))

    def _start(self) -> wire.Message:
        self._end()
        limits, section = self._section.limits, self._section
        home = tempfile.mkdtemp(prefix="streaming-child-")  # mode 0700
        environment = clean_environment() | {"HOME": home, "TMPDIR": home}
        # One thread each: the callers run side by side themselves, and a sum over several threads gives another last bit each time.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        environment["JDK_JAVA_OPTIONS"] = f"-Xmx{size(limits.memory) >> 20}m -XX:+ExitOnOutOfMemoryError"
        running = subprocess.Popen(
            [sys.executable, "-P", "-m", "streaming.scorers.child_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=home, bufsize=0, start_new_session=True,
        )  # fmt: skip
        self._running, self._end = running, weakref.finalize(self, _ended, running, home)
        files = {name: np.frombuffer(content, dtype=np.uint8) for name, content in self._package.files.items()}
        told = {"do": "open", "uri": self._package.uri, "is_folder": self._package.is_folder, "section": section.model_dump(mode="json")}
        try:
            return self._exchange(wire.pack(told, files), seconds(limits.open))
        except StreamingError:
            self._end()
            self._running = None
            raise

    def _exchange(self, sent: bytes, allowed_s: float) -> wire.Message:
        assert self._running is not None
        try:
            said, arrays = wire.unpack(*_exchange(self._running, sent, time.monotonic() + allowed_s))
        except (OSError, EOFError, ValueError, KeyError, TypeError, TimeoutError) as lost:
            late = isinstance(lost, TimeoutError)
            code = None if late else _code(self._running)
            self._end()
            self._running = None
            why = f"had no answer within {allowed_s:g} seconds and was ended" if late else f"ended{_words(code)} before it answered"
            raise ModelError(f"{self._package.uri}: the process of the model {why}; save the model again, or, if it needs more, raise model.limits "
                             f"(memory {self._section.limits.memory}, open {self._section.limits.open}, score {self._section.limits.score})") from lost  # fmt: skip
        if not said.get("ok"):
            raise _ERRORS.get(str(said.get("kind")), ModelError)(str(said.get("words")))
        return said, arrays


def _code(running: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return running.wait(timeout=5)
    return None


def _words(code: int | None) -> str:
    return "" if code is None else f" by signal {-code}" if code < 0 else f" with exit code {code}"


def _ended(running: subprocess.Popen[bytes], home: str) -> None:
    """End the process and whatever it started (a JVM, for PMML)."""
    with contextlib.suppress(OSError):
        os.killpg(running.pid, 9)
    running.kill()
    running.wait()
    for pipe in (running.stdin, running.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    shutil.rmtree(home, ignore_errors=True)


def _exchange(running: subprocess.Popen[bytes], sent: bytes, until: float) -> tuple[bytes, bytes]:
    """Send a message, read the answer. TimeoutError after `until`, EOFError or OSError when the process ends."""
    assert running.stdin is not None
    assert running.stdout is not None
    waiting, received = memoryview(sent), bytearray()
    into, out = running.stdin.fileno(), running.stdout.fileno()
    os.set_blocking(into, False)
    with selectors.DefaultSelector() as ready:
        ready.register(into, selectors.EVENT_WRITE)
        ready.register(out, selectors.EVENT_READ)
        while True:
            events = ready.select(max(0.0, until - time.monotonic()))
            if not events:
                raise TimeoutError
            for key, _ in events:
                if key.fd == out:
                    chunk = os.read(out, _CHUNK)
                    if not chunk:
                        raise EOFError
                    received += chunk
                else:
                    waiting = waiting[os.write(into, waiting[:_CHUNK]) :]
                    if not waiting:
                        ready.unregister(into)
            if len(received) >= wire.HEAD.size:
                first, second = wire.HEAD.unpack_from(received)
                if first + second > wire.LONGEST:
                    raise ValueError("an answer of that length is none")
                whole = wire.HEAD.size + first + second
                if len(received) >= whole:
                    return bytes(received[wire.HEAD.size : wire.HEAD.size + first]), bytes(received[wire.HEAD.size + first : whole])
