"""What a system is: processes that read one topic and write another. Everything is measured from outside, so that all are measured alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

ROOT: Final = Path(__file__).parents[2]
#: Peers have pins of their own, which must not decide what the project runs on.
PEERS: Final = ROOT / ".cache" / "peers" / "bin" / "python"
#: Small matrices: more threads would only be in each other's way, and in the way of the second process.
ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Place:
    """Where a system reads and writes, and the folder that is its own."""

    servers: str
    events: str
    out: str
    folder: Path
    #: Where the trained model is, in every form that a system may want.
    home: Path
    #: Of real-time mode: how often offsets are committed.
    trigger: str

    @property
    def labels(self) -> str:
        """The topic of labels, for systems that learn."""
        return f"{self.out}.labels"


class System(Protocol):
    """One way from events to answers."""

    @property
    def title(self) -> str:
        """What it is called in a table."""

    @property
    def answers(self) -> bool:
        """True when it scores; False when it hands on the bytes it read."""

    @property
    def learns(self) -> bool:
        """True when it wants a label for each event."""

    @property
    def realtime(self) -> bool:
        """True when it pauses at each trigger: a window then holds a whole one."""

    def missing(self) -> str | None:
        """None when it can run here; else the one line that says how to install it."""

    def commands(self, place: Place) -> list[list[str]]:
        """The processes that do the work until they are told to stop, from the first record on."""

    def environment(self) -> Mapping[str, str]:
        """What its processes need beside what everybody has."""


@dataclass(frozen=True)
class Script:
    """A system that is a module of this folder: `python -m benchmarks.systems.<module> ARGUMENTS SERVERS EVENTS OUT FOLDER HOME TRIGGER`."""

    title: str
    module: str
    arguments: tuple[str, ...] = ()
    answers: bool = True
    learns: bool = False
    realtime: bool = False
    #: Packages that the project itself does not need, and the dependency group that names them.
    needs: tuple[str, ...] = ()
    group: str = ""
    #: Processes, each with its share of the partitions.
    processes: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: ONE_THREAD)

    @property
    def python(self) -> Path:
        """The interpreter: the peers' own where the group is theirs."""
        return PEERS if self.group else Path(sys.executable)

    def missing(self) -> str | None:
        """None when every package can be imported."""
        if not self.needs or (
            self.python.exists()
            and not subprocess.run([self.python, "-c", f"import {', '.join(self.needs)}"], capture_output=True).returncode
        ):
            return None
        return f"{self.title}: left out; to install it: " + ("make bench-peers" if self.group else f"pip install {' '.join(self.needs)}")

    def commands(self, place: Place) -> list[list[str]]:
        """One command for each process."""
        places = [place.servers, place.events, place.out, str(place.folder), str(place.home), place.trigger]
        command = [str(self.python), "-m", f"benchmarks.systems.{self.module}", *self.arguments, *places]
        return [command] if self.processes == 1 else [[*command, f"{i}/{self.processes}"] for i in range(self.processes)]

    def environment(self) -> Mapping[str, str]:
        """The settings, and where this checkout is."""
        return {**self.settings, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def place(arguments: list[str]) -> Place:
    """The place that :class:`Script` wrote on the command line."""
    servers, events, out, folder, home, trigger = arguments
    return Place(servers, events, out, Path(folder), Path(home), trigger)
