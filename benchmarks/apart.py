"""Parts that need a process of their own, so that their JVM is gone before the next is measured: figures as JSON lines on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import Part
from benchmarks.systems.base import ROOT
from benchmarks.watch import Watch


def figure(system: str, setting: str, measure: str, unit: str, repeats: Sequence[float]) -> None:
    """Hand one figure to the suite."""
    print(json.dumps({"figure": [system, setting, measure, unit, list(repeats)]}), flush=True)


def note(text: str) -> None:
    """Hand over a line on what could not be measured, and why."""
    print(json.dumps({"note": text}), flush=True)


def say(text: str) -> None:
    """Show progress."""
    print(json.dumps({"say": text}), flush=True)


def run(module: str, arguments: Sequence[str], part: Part, watch: Watch, *, python: Path | None = None, log: Path | None = None) -> None:
    """Run the module of this folder and take over what it hands out. When it fails, its last line becomes a note."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(python or sys.executable), "-m", f"benchmarks.{module}", *arguments]
    with (log or Path(os.devnull)).open("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in process.stdout:
                take(line, part, watch)
        if process.returncode:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["no word why"]
            part.notes.append(f"{module} {' '.join(arguments)}: ended with exit code {process.returncode}: {last[0]}")


def take(line: str, part: Part, watch: Watch) -> None:
    """One line of such a process; what is no JSON object is not for us."""
    if not line.startswith("{"):
        return
    said = json.loads(line)
    if "figure" in said:
        part.add(*said["figure"])
    elif "note" in said:
        part.notes.append(said["note"])
    else:
        watch.say(f"{part.name} · {said['say']}")
