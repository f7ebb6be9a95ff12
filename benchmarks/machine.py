"""What was measured on: the machine, and the versions of everything that counts."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from benchmarks.systems.base import PEERS
from streaming.runtime import java

_PACKAGES: Final = ("pyspark", "numpy", "pandas", "scikit-learn", "onnxruntime", "confluent-kafka", "river")
_PEERS: Final = ("quixstreams", "vowpalwabbit", "capymoa", "scikit-learn")


def machine() -> dict[str, str]:
    """What a reader needs to judge a figure, by name."""
    said = subprocess.run([java.java_command(), "-version"], capture_output=True, text=True).stderr.splitlines()
    return {
        "machine": f"{os.cpu_count()} cores ({_cpu()}), {psutil.virtual_memory().total / 2**30:.0f} GB, {platform.platform()}",
        "Python": platform.python_version(),
        "Java": said[0] if said else "unknown",
        "packages": ", ".join(_installed(_PACKAGES)),
        "peers": _peers(),
        "commit": subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip() or "unknown",
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    line = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.exists() else None
    return line[1] if line else platform.processor() or "unknown"


def _installed(names: tuple[str, ...]) -> list[str]:
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return versions


def _peers() -> str:
    """The versions in the peers' own environment."""
    if not PEERS.exists():
        return "none installed (make bench-peers)"
    code = f"from importlib.metadata import version\nfor name in {_PEERS!r}:\n  try: print(name, version(name))\n  except Exception: pass"
    return ", ".join(subprocess.run([PEERS, "-c", code], capture_output=True, text=True).stdout.splitlines())
