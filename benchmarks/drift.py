"""Does the monitor cry wolf, and does it see the wolf? Quiet windows and planted drifts, with a table for the documentation.

    python -m benchmarks.drift [--peer PYTHON]

Quiet: five data sets, windows of 200 to 50,000 rows drawn as the baseline was. Planted: one change in windows of 2,000
rows. `--peer`: a Python that has `evidently`, whose default data drift preset then judges the same windows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from benchmarks import drift_peer
from streaming.demo import churn
from streaming.monitor import drift
from streaming.monitor.baseline import AnsweredRows, Baseline, of_answers, of_table
from streaming.monitor.statistics import of_rows, of_scores

SIZES = (200, 1_000, 2_000, 10_000, 50_000)
REPEATS = 16
BASELINE_ROWS = 20_000
FEATURES = [*churn.NUMERIC, *churn.CATEGORICAL]


@dataclass(frozen=True)
class Data:
    """A data set: `draw(n, seed)` gives n rows of it, fresh for each seed."""

    name: str
    draw: Callable[[int, int], pd.DataFrame]


def _bootstrap(frame: pd.DataFrame) -> Callable[[int, int], pd.DataFrame]:
    return lambda n, seed: frame.iloc[np.random.default_rng(seed).integers(0, len(frame), n)].reset_index(drop=True)


def _heavy(n: int, seed: int) -> pd.DataFrame:
    """A hundred columns with heavy tails that hang together."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(2.5, (n, 1)) + rng.standard_t(2.5, (n, 100))
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(100)])


def _texts(n: int, seed: int) -> pd.DataFrame:
    """Ten text columns: long tails of rare categories (Zipf), nulls of 0 to 9 %."""
    rng = np.random.default_rng(seed)
    words = {f"w{i}": pd.Series(np.minimum(rng.zipf(1.3 + i / 10, n), 500)).map("v{}".format) for i in range(10)}
    return pd.DataFrame({name: column.mask(rng.random(n) < i / 100) for i, (name, column) in enumerate(words.items())})


def _churn(n: int, seed: int) -> pd.DataFrame:
    return churn.training_table(n, seed=seed)


DATA = (
    Data("churn (19 mixed)", lambda n, seed: _churn(n, seed)[FEATURES]),
    Data("breast cancer (30 numbers)", _bootstrap(datasets.load_breast_cancer(as_frame=True).data)),
    Data("diabetes (10 numbers)", _bootstrap(datasets.load_diabetes(as_frame=True).data)),
    Data("heavy tails (100 numbers)", _heavy),
    Data("rare categories (10 texts)", _texts),
)


def arrow(frame: pd.DataFrame) -> pa.Table:
    """The frame without its index."""
    return pa.Table.from_pandas(frame, preserve_index=False)


def quiet() -> Iterator[tuple[str, int, int, int]]:
    """(data set, rows of a window, windows, windows that alarm)."""
    for data in DATA:
        frame = arrow(data.draw(BASELINE_ROWS, 1))
        base = of_table(frame, columns=frame.column_names, source=data.name)
        for size in SIZES:
            windows = [of_rows(arrow(data.draw(size, 1_000_000 + size * 100 + i)), base.layout) for i in range(REPEATS)]
            yield data.name, size, REPEATS, sum(any(f.drifted for f in drift.judge(w, base)) for w in windows)


class Scored:
    """The churn data with a model, its baseline, and windows of it."""

    def __init__(self) -> None:
        table = self.rows(BASELINE_ROWS, 1)
        self.columns = pd.get_dummies(table[FEATURES]).columns
        self.model = LogisticRegression(max_iter=300).fit(self._inputs(table), table["churn"] == "Yes")
        self.base: Baseline = of_table(
            arrow(table),
            columns=FEATURES,
            slices=["contract"],
            source="churn",
            scored=arrow(held := self.rows(10_000, 2)),
            answers=self.answers(held),
        )

    @staticmethod
    def rows(n: int, seed: int) -> pd.DataFrame:
        """Customers, with 3 % of total_charges missing."""
        table = _churn(n, seed)
        table["total_charges"] = table["total_charges"].mask(np.random.default_rng(seed).random(n) < 0.03)
        return table

    def _inputs(self, table: pd.DataFrame) -> pd.DataFrame:
        filled = table[FEATURES].fillna({"total_charges": 1400.0})
        encoded = pd.get_dummies(filled).reindex(columns=self.columns, fill_value=0).astype(float)
        return encoded.div(pd.Series(np.where(encoded.columns.isin(churn.NUMERIC), 100.0, 1.0), index=encoded.columns))

    def answers(self, table: pd.DataFrame) -> AnsweredRows:
        p = self.model.predict_proba(self._inputs(table))[:, 1]
        return AnsweredRows("churn", "probability", (p > 0.5).astype(float), p, np.asarray(table["churn"] == "Yes", dtype=np.float64))

    def judge(self, table: pd.DataFrame) -> list[drift.Finding]:
        """What the monitor finds in a window."""
        rows, said = arrow(table), self.answers(table)
        assert self.base.score is not None
        window = of_rows(rows, self.base.layout) + of_scores(said.watched, self.base.score, self.base.layout.memberships(rows))
        return [f for f in drift.judge(window + of_answers(rows, self.base.layout, said), self.base) if f.drifted]


def _swap(table: pd.DataFrame) -> pd.DataFrame:
    other = {"Fiber optic": "No", "No": "Fiber optic", "DSL": "DSL"}
    return table.assign(internet_service=table["internet_service"].map(other))


def _nulls(table: pd.DataFrame) -> pd.DataFrame:
    more = np.random.default_rng(len(table)).random(len(table)) < 0.062
    return table.assign(total_charges=table["total_charges"].mask(more))


def _flip(table: pd.DataFrame) -> pd.DataFrame:
    one_year = table["contract"] == "One year"
    return table.assign(churn=table["churn"].where(~one_year, table["churn"].map({"Yes": "No", "No": "Yes"})))


#: What is planted, the change, and what has to be named: a feature, or a slice.
PLANTED: tuple[tuple[str, Callable[[pd.DataFrame], pd.DataFrame], str], ...] = (
    ("tenure shifted by 0.5 σ", lambda t: t.assign(tenure=t["tenure"] + 0.5 * t["tenure"].std()), "tenure"),
    ("monthly_charges shifted by 0.5 σ", lambda t: t.assign(monthly_charges=t["monthly_charges"] + 0.5 * t["monthly_charges"].std()), "monthly_charges"),
    ("two categories of internet_service swapped", _swap, "internet_service"),
    ("nulls of total_charges tripled (3 % to 9 %)", _nulls, "total_charges"),
    ("monthly_charges in another unit (×100)", lambda t: t.assign(monthly_charges=t["monthly_charges"] * 100), "monthly_charges"),
    ("labels flipped where contract = One year", _flip, "contract = One year"),
)  # fmt: skip


def planted(scored: Scored, *, windows: int = 20, size: int = 2_000) -> Iterator[tuple[str, int, int, set[str]]]:
    """(what, windows, windows in which the right name comes first, all names of features or slices that were ever given)."""
    for what, change, name in PLANTED:
        first, named = 0, set()
        for i in range(windows):
            findings = scored.judge(change(scored.rows(size, 5_000 + i)))
            of_slice = "=" in name
            names = [scored.base.slice_value(f.slice) if of_slice else f.subject for f in findings if bool(f.slice) == of_slice and (of_slice or f.about == "feature")]  # fmt: skip
            first += bool(names) and names[0] == name
            named |= set(names)
        yield what, windows, first, named


def main() -> int:
    """Print the tables; 1 when the promises do not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python with evidently")
    options = parser.parse_args()
    began, alarms, windows = time.monotonic(), 0, 0
    print("| data | " + " | ".join(f"{size:,}" for size in SIZES) + " |\n|---|" + "---|" * len(SIZES))
    line: list[str] = []
    for name, size, n, alarmed in quiet():
        alarms, windows, line = alarms + alarmed, windows + n, [*line, f"{alarmed} of {n}"]
        if size == SIZES[-1]:
            print(f"| {name} | " + " | ".join(line) + " |", flush=True)
            line = []
    print(f"\nquiet: {alarms} of {windows} windows alarm ({alarms / windows:.2%})\n")
    print("| planted in windows of 2,000 rows | found in one window, named first | others named |\n|---|---|---|")
    scored, well = Scored(), alarms / windows <= 0.01
    for (what, n, first, named), (_, _, name) in zip(planted(scored), PLANTED, strict=True):
        well &= first >= 0.99 * n
        print(f"| {what} | {first} of {n} | {', '.join(sorted(named - {name})) or '-'} |")
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.peer:
        _beside(options.peer, scored)
    return 0 if well else 1


def _beside(python: str, scored: Scored) -> None:
    """The peer's answers to the same questions; of labels it is shown the column."""
    sizes, quiet_windows, planted_windows = SIZES[:4], 10, 10
    print("\n| evidently, default preset, quiet | " + " | ".join(f"{size:,}" for size in sizes) + " |\n|---|" + "---|" * len(sizes))
    draws = {data.name: data.draw for data in DATA}
    print("\n".join(drift_peer.quiet(python, draws, sizes, rows=BASELINE_ROWS, n=quiet_windows)), flush=True)
    shown = [*FEATURES, "churn"]
    windows = {
        (what, "churn" if "=" in name else name): [change(scored.rows(2_000, 5_000 + i))[shown] for i in range(planted_windows)]
        for what, change, name in PLANTED
    }
    print("\n| planted | evidently names the column | another one too | which | a drift of the data |\n|---|---|---|---|---|")
    print("\n".join(drift_peer.planted(python, scored.rows(BASELINE_ROWS, 1)[shown], windows)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
