"""spark-submit's --py-files takes the package as a zip: every module is found in it, and none needs to be a file on a disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a task on an executor unpickles: functions of these rooms. The command itself is imported on the driver.
PROGRAM = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import streaming
assert streaming.__file__.startswith(sys.argv[1]), streaming.__file__
rooms = [m for m in pkgutil.iter_modules(streaming.__path__, "streaming.") if not m.name.endswith("__main__")]
assert len(rooms) > 20, rooms
for name in ("cli.main", "job.service", "batch.run", "lanes.learn", "learning.state_file", "models.python", "stores.write_partitions", "scorers.worker"):
    module = importlib.import_module(f"streaming.{name}")
    assert module.__file__.startswith(sys.argv[1]), module.__file__
"""


def test_the_package_works_as_a_zip(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "streaming", tmp_path / "copy" / "streaming", ignore=shutil.ignore_patterns("__pycache__"))
    made = shutil.make_archive(str(tmp_path / "streaming"), "zip", tmp_path / "copy")
    done = subprocess.run([sys.executable, "-c", PROGRAM, made], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
