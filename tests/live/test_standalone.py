"""A standalone cluster started from pip's pyspark: master, worker, and `streaming batch` submitted to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyspark
import pytest

from streaming.embedded.broker import free_port
from streaming.runtime import jars
from tests.support import events
from tests.support.job import write_config

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

_SPARK = Path(pyspark.__file__).parent
_ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    return {**os.environ, "SPARK_HOME": str(_SPARK), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}


@contextmanager
def daemon(log: Path, *arguments: str) -> Iterator[None]:
    """A Spark daemon in the foreground of a process of ours."""
    with log.open("wb") as out:
        process = subprocess.Popen([str(_SPARK / "bin" / "spark-class"), *arguments], stdout=out, stderr=out, env=environment())
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def wait_for(log: Path, words: str) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def test_a_batch_on_a_standalone_cluster(tree: dict[str, Any], tmp_path: Path) -> None:
    port, n = free_port(), 40
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b"".join(events.good(i)[1] + b"\n" for i in range(n)) + b"{oops\n")
    config = write_config(tmp_path / "job.yaml", tree)
    master, worker = tmp_path / "master.log", tmp_path / "worker.log"
    with ExitStack() as stack:
        cluster = "org.apache.spark.deploy"
        stack.enter_context(daemon(master, f"{cluster}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"))
        wait_for(master, "I have been elected leader")
        url = f"spark://127.0.0.1:{port}"
        places = ["--host", "127.0.0.1", "--webui-port", "0", "--work-dir", str(tmp_path / "work"), "--cores", "2", "--memory", "1g"]
        stack.enter_context(daemon(worker, f"{cluster}.worker.Worker", *places, url))
        wait_for(worker, "Successfully registered with master")
        given = ["--master", url, "--jars", ",".join(map(str, jars.resolve("spark"))), "--executor-memory", "512m"]
        job = [str(_ROOT / "jobs" / "batch.py"), str(config), "--input", str(lines), "--output", str(tmp_path / "out")]
        done = subprocess.run(
            [str(_SPARK / "bin" / "spark-submit"), *given, *job],
            capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=400, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{n + 1} rows: {n} predicted, 1 rejected" in done.stdout
    counts = json.loads((tmp_path / "out" / "_chunk-00000.json").read_text())
    assert counts == {"predicted": n, "rejected": 1}
    assert list((tmp_path / "out").glob("chunk=*/outcome=predicted/*.parquet"))
    assert "Executor app" in master.read_text() or "Launching executor" in master.read_text()
