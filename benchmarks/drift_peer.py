"""The questions of :mod:`benchmarks.drift`, put to evidently's default data drift preset in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
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
    print(json.dumps({"columns": columns}))
"""


def ask(python: str, base: pd.DataFrame, windows: Sequence[pd.DataFrame]) -> list[frozenset[str]]:
    """Of each window the columns that drifted, says evidently, which that Python has."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{i}.parquet") for i in range(len(windows) + 1)]
        for path, frame in zip(paths, [base, *windows], strict=True):
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
        out = subprocess.run([python, "-c", _ASK, *paths], capture_output=True, text=True, check=True).stdout
    said = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [frozenset(row["columns"]) for row in said]


def quiet(python: str, base: pd.DataFrame, windows: Sequence[Sequence[pd.DataFrame]]) -> list[str]:
    """For each size: windows in which it says that a column drifted, though nothing had changed."""
    said = [ask(python, base, frames) for frames in windows]
    return [f"{sum(bool(v) for v in verdicts)} of {len(verdicts)}" for verdicts in said]


def planted(python: str, base: pd.DataFrame, windows: Sequence[pd.DataFrame], *, column: str) -> list[str]:
    """Windows in which the column that was changed is named; those in which another is, and which."""
    verdicts = ask(python, base, windows)
    wrong = sorted(frozenset().union(*verdicts) - {column})
    named, others = sum(column in v for v in verdicts), sum(bool(v - {column}) for v in verdicts)
    return [f"{named} of {len(verdicts)}", f"{others} of {len(verdicts)}{': ' + ', '.join(wrong) if wrong else ''}"]
