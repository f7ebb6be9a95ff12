"""Whether a long-running job grows: its live heap and the memory of its processes over time, as MB per hour.

    python -m benchmarks soak [--minutes 30] [--rate 1000] [--no-learn]

Memory of the processes is read every 10 s. The heap is read after a full collection that is asked for every
--collect seconds, because what lies on a heap between collections says nothing; not more often, because a collection
also frees what Spark only lets go when one comes. The slope is that of least squares on the last two thirds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time

import psutil

from benchmarks import harness
from benchmarks.statistics import slope

_EVERY_S = 10.0
_MB = 1024.0 * 1024.0
#: (hours since the start, MB)
Curve = list[tuple[float, float]]


def live_heap_mb(jvm: int) -> float:
    """What is still in use after a full collection."""
    subprocess.run(["jcmd", str(jvm), "GC.run"], check=True, capture_output=True)
    said = subprocess.run(["jcmd", str(jvm), "GC.heap_info"], check=True, capture_output=True, text=True).stdout
    used = re.search(r"heap\s+total \d+K, used (\d+)K", said)
    if used is None:
        sys.exit(f"jcmd GC.heap_info: no line of the heap in use; got:\n{said}")
    return int(used[1]) / 1024.0


def processes(job: int) -> tuple[psutil.Process, list[psutil.Process]]:
    """The JVM of the job, and its Python processes."""
    everything = [psutil.Process(job), *psutil.Process(job).children(recursive=True)]
    jvms = [process for process in everything if process.name() == "java"]
    if not jvms:
        sys.exit("the job has no JVM")
    return jvms[0], [process for process in everything if "python" in process.name()]


def watch(job: harness.Job, *, minutes: float, collect_s: float) -> dict[str, Curve]:
    """Sample until the time is over, and print a line for each collection."""
    curves: dict[str, Curve] = {"live heap": [], "JVM RSS": [], "Python RSS": []}
    began, collected = time.monotonic(), float("-inf")
    while (passed := time.monotonic() - began) < minutes * 60.0 and job.process.poll() is None:
        jvm, pythons = processes(job.process.pid)
        hours = passed / 3600.0
        curves["JVM RSS"].append((hours, jvm.memory_info().rss / _MB))
        curves["Python RSS"].append((hours, sum(process.memory_info().rss for process in pythons) / _MB))
        if passed - collected >= collect_s:
            collected = passed
            curves["live heap"].append((hours, live_heap_mb(jvm.pid)))
            print(f"{passed:>6.0f} s  " + "  ".join(f"{name} {curve[-1][1]:.0f} MB" for name, curve in curves.items()), flush=True)
        time.sleep(_EVERY_S)
    return curves


def main() -> None:
    """Run the job under steady traffic and print the slopes."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--warm-up", type=float, default=20.0)
    parser.add_argument("--collect", type=float, default=60.0, help="seconds between full collections of the JVM")
    parser.add_argument("--mode", choices=["realtime", "microbatch"], default="realtime")
    parser.add_argument("--no-learn", action="store_true", help="without the lane LEARN")
    given = parser.parse_args()
    if shutil.which("jcmd") is None:
        sys.exit("jcmd is not on PATH; it comes with a JDK (Debian, Ubuntu: openjdk-17-jdk-headless)")
    harness.load("start")
    learn = not given.no_learn
    with harness.bench(given.home) as bench:
        path = bench.configure(mode=given.mode, trigger="1 minute" if given.mode == "realtime" else "0 seconds", learn=learn)
        with bench.job(path, *harness.lanes(learn=learn)) as job:
            flow = harness.Traffic(bench.servers)
            flow.run(rate=given.rate, seconds=given.warm_up)
            job.wait_for(flow.answered)
            endless = threading.Thread(target=flow.run, kwargs={"rate": given.rate, "seconds": given.minutes * 60.0 + 60.0})
            endless.start()
            try:
                curves = watch(job, minutes=given.minutes, collect_s=given.collect)
            finally:
                flow.stop.set()
                endless.join()
            job.wait_for(flow.answered)
    for name, curve in curves.items():
        print(f"{name:<11}{curve[0][1]:>7.0f} MB at first {curve[-1][1]:>7.0f} MB at last  slope {slope(curve):+.1f} MB/hour")
    print(f"events={flow.sent.total} labels={flow.sent.labels} mode={given.mode} learn={learn}")
    harness.load("end")


if __name__ == "__main__":
    main()
