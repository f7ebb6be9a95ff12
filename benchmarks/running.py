"""The processes of a system, watched from outside: are they alive, what did they say last, how much processor time did they take."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.systems.base import Place, System


class Stopped(Exception):
    """A system ended by itself, or did not do in time what it was asked for."""


@dataclass
class Running:
    """A system that runs."""

    system: System
    logs: list[Path]
    processes: list[subprocess.Popen[bytes]]
    #: By `time.time`, when its first process was launched.
    launched: float
    _most: dict[int, float] = field(default_factory=dict)

    def wait_for(self, ready: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Return when `ready` says so. Stopped when a process ends or the time is over."""
        deadline = time.monotonic() + within_s
        while not ready():
            if any(process.poll() is not None for process in self.processes):
                raise Stopped(f"ended by itself: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Stopped(f"{what}: not within {within_s:.0f} s")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last line of each log."""
        return "; ".join((log.read_text(errors="replace").strip().splitlines() or ["not a word"])[-1] for log in self.logs)

    def told(self) -> list[dict[str, Any]]:
        """The JSON lines that its processes printed."""
        lines = (line for log in self.logs for line in log.read_text(errors="replace").splitlines())
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def cpu_s(self) -> float:
        """Processor seconds of all its processes so far, their children with them."""
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                for each in (root, *root.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        times = each.cpu_times()
                        self._most[each.pid] = times.user + times.system + times.children_user + times.children_system
        return sum(self._most.values())


@contextmanager
def running(system: System, place: Place) -> Iterator[Running]:
    """Start the system's processes; they end with the `with`, in any case."""
    place.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **system.environment()}
    with ExitStack() as stack:
        logs, processes, launched = [], [], time.time()
        for number, command in enumerate(system.commands(place)):
            logs.append(place.folder / f"{number}.log")
            target = stack.enter_context(logs[-1].open("wb"))
            processes.append(subprocess.Popen(command, stdout=target, stderr=subprocess.STDOUT, env=environment))
            stack.callback(_end, processes[-1])
        yield Running(system, logs, processes, launched)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell it to stop; after ten seconds end it, and every child it leaves."""
    children = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for each in (*children, process):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            each.kill()
    process.wait()
    psutil.wait_procs(children, timeout=10)
