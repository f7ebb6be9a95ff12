"""A run that leaves a process behind is found out, even when that process's own parent is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.support import processes


def test_an_orphan_of_the_run_is_found_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMING_TEST_RUN", os.environ["STREAMING_TEST_RUN"])  # so that the run's own mark is back afterwards
    mark = processes.mark()
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(600)'], stdout=subprocess.DEVNULL"
    orphan = f"import subprocess, sys; print(subprocess.Popen({sleeper}).pid)"
    said = subprocess.run([sys.executable, "-W", "ignore", "-c", orphan], stdout=subprocess.PIPE, text=True, check=True).stdout
    (line,) = processes.left(mark, within_s=0.1)
    assert line.startswith(f"{int(said)} ")
    assert "time.sleep(600)" in line
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(said)) and psutil.Process(int(said)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert processes.left(mark, within_s=0.1) == []
