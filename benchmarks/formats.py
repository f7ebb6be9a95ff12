"""The same churn model as a Spark pipeline and as ONNX, draining the same backlog through the micro-batch score lane.

    python -m benchmarks formats [--events 300000]

One after the other on the same broker; events per second as `benchmarks drain` counts them.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import yaml

from benchmarks import drain, harness


def main() -> None:
    """Drain twice and print both rates and their ratio."""
    parser = harness.options(__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=300_000)
    given = parser.parse_args()
    harness.load("start")
    found = {}
    for kind in ("spark", "onnx"):
        with harness.bench(given.home) as bench:
            path = bench.configure(mode="microbatch", trigger="0 seconds")
            if kind == "onnx":
                packaged = bench.folder / "package"
                subprocess.run([sys.executable, "-m", "streaming", "package", str(path), "--out", str(packaged)], check=True)
                tree = yaml.safe_load(path.read_text())
                tree["model"] |= {"format": "onnx", "uri": str(packaged)}
                path.write_text(yaml.safe_dump(tree, sort_keys=False))
            drain.fill(bench.servers, given.events)
            found[kind] = drain.by_spark(bench, path, given.events)
    spark, onnx = found["spark"], found["onnx"]
    same = np.mean([onnx.answers.get(event_id) == prediction for event_id, prediction in spark.answers.items()])
    print(f"events={given.events} answered: spark {len(spark.answers)}, onnx {len(onnx.answers)}; same prediction {same:.2%}")
    for kind, one in found.items():
        print(f"{kind:<6}{one.per_s:>10,.0f} events/s  (second half {one.warm_per_s:,.0f})")
    print(f"ratio {onnx.per_s / spark.per_s:>10.2f}           (second half {onnx.warm_per_s / spark.warm_per_s:.2f})")
    harness.load("end")


if __name__ == "__main__":
    main()
