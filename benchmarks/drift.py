"""Does the monitor cry wolf, and does it see the wolf? Quiet windows and planted drifts, with a table for the documentation.

    python -m benchmarks drift [--windows 200] [--peer PYTHON] [--page docs/monitoring.md]

Quiet: five data sets, windows of 200 to 50,000 rows drawn as the baseline was. Planted: one change in windows of 2,000
rows. `--peer`: a Python that has `evidently`, whose default data drift preset then judges the first of the same windows.
Some twenty minutes on one core; the peer takes as long again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from benchmarks import drift_peer
from streaming.demo import churn
from streaming.monitor import drift, quality
from streaming.monitor.baseline import AnsweredRows, Baseline, of_answers, of_table
from streaming.monitor.statistics import of_rows, of_scores

SIZES = (200, 1_000, 2_000, 10_000, 50_000)
#: What the peer is asked: it takes many seconds for each window.
PEER_SIZES, PEER_WINDOWS = (200, 2_000), 5
BASELINE_ROWS = 20_000
FEATURES = [*churn.NUMERIC, *churn.CATEGORICAL]


def seeds(size: int, n: int) -> range:
    """The seeds of n quiet windows of a size."""
    return range(1_000_000 + size * 1_000, 1_000_000 + size * 1_000 + n)


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


def quiet(n: int) -> Iterator[tuple[str, int, int, int]]:
    """(data set, rows of a window, windows, windows that alarm)."""
    for data in DATA:
        frame = arrow(data.draw(BASELINE_ROWS, 1))
        base = of_table(frame, columns=frame.column_names, source=data.name)
        for size in SIZES:
            windows = (of_rows(arrow(data.draw(size, seed)), base.layout) for seed in seeds(size, n))
            alarmed = sum(any(f.drifted for f in drift.judge(w, base)) for w in windows)
            print(f"{data.name}, {size:,} rows: {alarmed} of {n} windows alarm", file=sys.stderr, flush=True)
            yield data.name, size, n, alarmed


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


def _raised(people: churn.Columns) -> churn.Columns:
    return {**people, "monthly_charges": people["monthly_charges"] * 1.25}


def _newer(people: churn.Columns) -> churn.Columns:
    return {**people, "tenure": np.ceil(people["tenure"] * 0.4).astype(int)}


def _half(column: str, value: str) -> Callable[[churn.Columns], churn.Columns]:
    def change(people: churn.Columns) -> churn.Columns:
        half = np.random.default_rng(0).random(len(people[column])) < 0.5
        return {**people, column: np.where(half, value, people[column])}

    return change


#: How the inputs drift, while the law of churn stays what it was.
MOVED: Mapping[str, Callable[[churn.Columns], churn.Columns]] = {
    "nothing": lambda people: people,
    "prices up by a quarter": _raised,
    "customers are newer: tenure × 0.4": _newer,
    "half of all contracts become monthly": _half("contract", "Month-to-month"),
    "half of all lines become fiber": _half("internet_service", "Fiber optic"),
    "prices, tenure and contracts together": lambda people: _half("contract", "Month-to-month")(_newer(_raised(people))),
}


def estimates(scored: Scored, *, n: int = 20_000) -> Iterator[tuple[str, dict[str, float], dict[str, float]]]:
    """(what drifts, figures expected without labels, measured ones), of answers whose labels are drawn from the law as it was."""
    for what, change in MOVED.items():
        people = change(churn.customers(n, seed=77))
        left = np.random.default_rng(5).random(n) < churn.churn_probability(people, regime=churn.BEFORE)
        said = scored.answers(pd.DataFrame(people).assign(churn=np.where(left, "Yes", "No")))
        pairs = quality.of_pairs(said.prediction, said.score, said.label, task="probability")
        assert scored.base.worth is not None
        expected = {m.name: m.value for m in quality.expected(quality.scores(pairs), scored.base.worth)}
        yield what, expected, {m.name: m.value for m in quality.measures(pairs, task="probability")}


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
    """Print the tables, or put them into the page; 1 when the promises do not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=int, default=200, help="quiet windows of each data set and size")
    parser.add_argument("--peer", help="a Python with evidently, which is asked the same")
    parser.add_argument(
        "--page", type=Path, help="write the tables into this page, between the comments <!-- drift --> and <!-- /drift -->"
    )
    options = parser.parse_args()
    began = time.monotonic()
    alarms = list(quiet(options.windows))
    scored = Scored()
    named = list(planted(scored))
    share = sum(alarmed for *_, alarmed in alarms) / sum(n for _, _, n, _ in alarms)
    without_labels = list(estimates(scored))
    text = "\n".join(
        [*_quiet_table(alarms, options.peer), "", *_planted_table(named, scored, options.peer), "", *_estimates_table(without_labels)]
    )
    print(text)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.page is not None:
        put(options.page, text)
    near = all(abs(expected[name] - truth[name]) <= 0.02 for _, expected, truth in without_labels for name in expected)
    return 0 if share <= 0.01 and all(first >= 0.99 * n for _, n, first, _ in named) and near else 1


def _quiet_table(alarms: Sequence[tuple[str, int, int, int]], peer: str | None) -> Iterator[str]:
    total, alarmed = sum(n for _, _, n, _ in alarms), sum(a for *_, a in alarms)
    yield f"{alarmed} of {total:,} quiet windows alarm ({alarmed / total:.2%}), by rows of the window:\n"
    yield "| data | who is asked | " + " | ".join(f"{size:,}" for size in SIZES) + " |\n|---|---|" + "---|" * len(SIZES)
    for data in DATA:
        cells = [f"{alarmed} of {n}" for name, _, n, alarmed in alarms if name == data.name]
        yield f"| {data.name} | this monitor | " + " | ".join(cells) + " |"
        if peer:
            windows = [[data.draw(size, seed) for seed in seeds(size, PEER_WINDOWS)] for size in PEER_SIZES]
            said = dict(zip(PEER_SIZES, drift_peer.quiet(peer, data.draw(BASELINE_ROWS, 1), windows), strict=True))
            yield "| | evidently | " + " | ".join(said.get(size, "") for size in SIZES) + " |"


def _planted_table(named: Sequence[tuple[str, int, int, set[str]]], scored: Scored, peer: str | None) -> Iterator[str]:
    head = ["planted in windows of 2,000 rows", "found in the first window, and named first", "what else was ever named"]
    shown = [*FEATURES, "churn"]
    base = scored.rows(BASELINE_ROWS, 1)[shown] if peer else None
    if peer:
        head += ["evidently names it", "evidently names another, too"]
    yield "| " + " | ".join(head) + " |\n|" + "---|" * len(head)
    for (what, n, first, names), (_, change, name) in zip(named, PLANTED, strict=True):
        cells = [what, f"{first} of {n}", ", ".join(sorted(names - {name})) or "nothing"]
        if peer and base is not None:  # of the labels it is shown the column: it knows no slices
            windows = [change(scored.rows(2_000, 5_000 + i))[shown] for i in range(PEER_WINDOWS)]
            cells += drift_peer.planted(peer, base, windows, column="churn" if "=" in name else name)
        yield "| " + " | ".join(cells) + " |"


def _estimates_table(rows: Sequence[tuple[str, dict[str, float], dict[str, float]]]) -> Iterator[str]:
    yield "| inputs drift, churn's law stays | accuracy: expected before labels | measured | area under ROC: expected | measured |"
    yield "|---|---|---|---|---|"
    for what, expected, truth in rows:
        cells = [f"{figures[name]:.3f}" for name in ("accuracy", "area_under_roc") for figures in (expected, truth)]
        yield f"| {what} | " + " | ".join(cells) + " |"


def put(page: Path, text: str) -> None:
    """Replace what stands between the two comments of a page. ValueError when they are not there."""
    whole = page.read_text()
    begin, end = ("<!-- drift: made by python -m benchmarks drift --page -->", "<!-- /drift -->")
    if begin not in whole or end not in whole:
        raise ValueError(f"{page}: expected the comments {begin} and {end} around the tables")
    before, _, rest = whole.partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    sys.exit(main())
