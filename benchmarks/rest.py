"""How many single predictions a second `streaming api` answers, how long each takes, and what Spark's own `transform` does with one row.

    python -m benchmarks rest [--seconds 20] [--connections 16] [--url http://127.0.0.1:8000]

Everything on this machine, the load generator included, each in a process of its own. First as fast as the connections
go (each sends its next request when it has its answer); then at half that rate, where a request's time begins when it is
due, not when it could be sent, so that waiting counts. Then Spark: one row, `transform`, `collect`, again and again.
With --url a service that runs already is measured, and Spark is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import yaml

from benchmarks import harness, prepare
from streaming.demo import churn
from streaming.runtime import jars

_PATIENCE_S = 300.0
_ROWS = 500
_SPARK_ROWS = 40


def rows(n: int) -> list[dict[str, Any]]:
    """Customers as a caller sends them: the fields that the model reads."""
    columns = churn.customers(n, seed=11)
    names = (*churn.CATEGORICAL, *churn.NUMERIC)
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name].tolist() for name in names), strict=True)]


def requests(n: int) -> list[bytes]:
    """The same as whole HTTP requests."""
    made = []
    for row in rows(n):
        body = json.dumps({"instance": row}).encode()
        head = f"POST /v1/models/churn:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        made.append(head.encode() + body)
    return made


class Caller(asyncio.Protocol):
    """One kept connection: a request at a time, its time noted when its answer is whole."""

    def __init__(
        self, texts: Iterator[bytes], end: float, *, first_due: float, every_s: float, ms: list[float], done: asyncio.Future[None]
    ) -> None:
        self._texts, self._end, self._due, self._every_s, self._ms, self._done = texts, end, first_due, every_s, ms, done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._wait()

    def _wait(self) -> None:
        now = time.perf_counter()
        if max(now, self._due) >= self._end:
            self._transport.close()
            self._done.set_result(None)
        elif self._every_s and self._due > now:
            asyncio.get_running_loop().call_later(self._due - now, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        self._started = self._due if self._every_s else time.perf_counter()
        self._due += self._every_s
        self._transport.write(next(self._texts))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200") or b'"prediction"' not in body:
            self._fail(f"expected a prediction, got {self._buffer[:500]!r}")
            return
        self._buffer = b""
        self._ms.append((time.perf_counter() - self._started) * 1000.0)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the service hung up")

    def _fail(self, words: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(words))


async def load(host: str, port: int, *, connections: int, seconds: float, rate: float) -> dict[str, float]:
    """Ask for so long: at `rate` requests a second in all, or as fast as it goes when that is 0."""
    texts, ms = cycle(requests(_ROWS)), list[float]()
    loop, begin = asyncio.get_running_loop(), time.perf_counter() + 0.1
    waits = []
    for i in range(connections):
        done = loop.create_future()
        every_s = connections / rate if rate else 0.0
        due = begin + i * every_s / connections
        caller = Caller(texts, begin + seconds, first_due=due, every_s=every_s, ms=ms, done=done)
        await loop.create_connection(lambda caller=caller: caller, host, port)
        waits.append(done)
    await asyncio.gather(*waits)
    p50, p99 = np.percentile(ms, [50, 99])
    return {"answers": len(ms), "per_s": len(ms) / seconds, "p50": p50, "p99": p99, "max": max(ms)}


def generated(url: str, *, connections: int, seconds: float, rate: float = 0.0) -> dict[str, float]:
    """:func:`load` in a process of its own."""
    settings = json.dumps({"connections": connections, "seconds": seconds, "rate": rate})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rest", "--generate", url, settings], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"the load generator failed: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def configure(home: Path, folder: Path) -> Path:
    """The demo's configuration with a free port for the API; its pipeline is trained once and kept in `home`."""
    text = jars.conf_file("demo.yaml").read_text()
    tree = yaml.safe_load(text.replace("${env:DEMO_BROKER}", "localhost:9092").replace("${env:DEMO_HOME}", str(home)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tree["api"] = {"port": port, "requests_per_second": None, "cache": str(home / "packages")}
    path = folder / "api.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    prepare.ready(home)
    return path


@contextmanager
def service(path: Path) -> Iterator[str]:
    """The real command `streaming api`; gives its address, and ends it in any case."""
    log = path.with_suffix(".log")
    with log.open("wb") as target:
        process = subprocess.Popen([sys.executable, "-m", "streaming", "api", str(path)], stdout=target, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while "listens=" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the service did not start; its last words:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield log.read_text().split("listens=")[1].split()[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def spark_rate(path: Path) -> float:
    """Rows a second when Spark's own `transform` is asked for one row at a time."""
    from pyspark.ml import PipelineModel

    from streaming import config as cfg
    from streaming.runtime import session

    config = cfg.load(path)
    spark = session.start(
        "rest", master=f"local[{os.cpu_count()}]", options={"spark.driver.memory": "1g"}, log=path.with_suffix(".spark.log")
    )
    try:
        model = PipelineModel.load(config.model.uri)
        frames = [spark.createDataFrame([row]) for row in rows(_SPARK_ROWS + 10)]
        for frame in frames[:10]:
            model.transform(frame).select("prediction", "probability").collect()
        started = time.perf_counter()
        for frame in frames[10:]:
            model.transform(frame).select("prediction", "probability").collect()
        return _SPARK_ROWS / (time.perf_counter() - started)
    finally:
        spark.stop()


def report(url: str, given: Namespace) -> float:
    """Measure both rates, print a line for each, and give the greatest rate."""
    generated(url, connections=given.connections, seconds=3.0)  # warm
    full = generated(url, connections=given.connections, seconds=given.seconds)
    half = generated(url, connections=given.connections, seconds=given.seconds, rate=full["per_s"] / 2)
    for name, figures in (("full", full), ("half", half)):
        print(
            f"{name} rate: {figures['per_s']:.0f} predictions/s over {given.connections} connections, "
            f"p50={figures['p50']:.2f} ms p99={figures['p99']:.2f} ms max={figures['max']:.0f} ms",
            flush=True,
        )
    return full["per_s"]


def main() -> None:
    """Measure the service, then Spark, and print the ratio."""
    if sys.argv[1:2] == ["--generate"]:
        where = urlsplit(sys.argv[2])
        print(json.dumps(asyncio.run(load(where.hostname or "127.0.0.1", where.port or 80, **json.loads(sys.argv[3])))))
        return
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--url", default=None, help="of a service that runs already, with the demo's churn model and without a token")
    given = parser.parse_args()
    harness.load("start")
    if given.url is not None:
        report(given.url, given)
    else:
        with tempfile.TemporaryDirectory(prefix="streaming-rest-") as folder:
            path = configure(given.home.absolute(), Path(folder))
            with service(path) as url:
                rate = report(url, given)
            alone = spark_rate(path)
            print(f"Spark's transform: {alone:.1f} rows/s one at a time; the service answers {rate / alone:.0f} times as many")
    harness.load("end")


if __name__ == "__main__":
    main()
