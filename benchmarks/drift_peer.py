"""The questions of :mod:`benchmarks.drift`, put to evidently's default data drift preset in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

#: Run by the peer's Python: the baseline's file and those of the windows in, a line of JSON for each window out. Distances are
#: drifted above their threshold, p-values below it.
_ASK: Final = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
base = pd.read_parquet(sys.argv[1])
for path in sys.argv[2:]:
    said = json.loads(Report([DataDriftPreset()]).run(pd.read_parquet(path), base).json())["metrics"]
    columns = []
    for metric in said[1:]:
        config, value = metric["config"], metric["value"]
        below = "p_value" in config["method"]
        if (value < config["threshold"]) if below else (value >= config["threshold"]):
            columns.append(config["column"])
    assert len(columns) == said[0]["value"]["count"], (columns, said[0])
    print(json.dumps({"columns": columns, "share": said[0]["value"]["share"]}))
"""


@dataclass(frozen=True)
class Verdict:
    """What the peer says of a window: the columns that drifted, and whether as many did as it calls a drift of the data (half of them)."""

    columns: frozenset[str]
    whole: bool


def ask(python: str, base: pd.DataFrame, windows: Sequence[pd.DataFrame]) -> list[Verdict]:
    """A verdict on each window, by a Python that has evidently."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{i}.parquet") for i in range(len(windows) + 1)]
        for path, frame in zip(paths, [base, *windows], strict=True):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
        out = subprocess.run([python, "-c", _ASK, *paths], capture_output=True, text=True, check=True).stdout
    said = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [Verdict(frozenset(row["columns"]), row["share"] >= 0.5) for row in said]


def quiet(python: str, draws: Mapping[str, Callable[[int, int], pd.DataFrame]], sizes: Sequence[int], *, rows: int, n: int) -> list[str]:
    """A line of the table for each data set: by size, windows in which a column drifted though nothing had changed, of `n`."""
    lines = []
    for name, draw in draws.items():
        base = draw(rows, 1)
        by_size = [ask(python, base, [draw(size, 1_000_000 + size * 100 + i) for i in range(n)]) for size in sizes]
        cells = [f"{sum(bool(v.columns) for v in verdicts)} of {n}" for verdicts in by_size]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def planted(python: str, base: pd.DataFrame, windows: Mapping[tuple[str, str], Sequence[pd.DataFrame]]) -> list[str]:
    """A line for each change, (what, the column it is in): windows in which that column was named, in which another was, and all it named."""
    lines = []
    for (what, column), frames in windows.items():
        verdicts = ask(python, base, frames)
        named, others = sum(column in v.columns for v in verdicts), sum(bool(v.columns - {column}) for v in verdicts)
        wrong = ", ".join(sorted(frozenset().union(*(v.columns for v in verdicts)) - {column})) or "-"
        whole = sum(v.whole for v in verdicts)
        lines.append(f"| {what} | {named} of {len(verdicts)} | {others} of {len(verdicts)} | {wrong} | {whole} of {len(verdicts)} |")
    return lines
