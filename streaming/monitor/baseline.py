"""What the data looked like when the model was right: the cells of every column, and the counts and the quality then.

JSON in the manifest of a trained model under `baseline`, or a file of its own for a model that was trained elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from streaming.errors import ConfigError
from streaming.monitor import quality
from streaming.monitor.bins import Column, column, probability, texts_of
from streaming.monitor.quality import Task
from streaming.monitor.statistics import QUALITY, Layout, Statistics, Vector, array, merged, of_rows, of_scores

FORMAT: Final = 1

#: A field that makes slices is cut at so many categories; the rest belongs to no slice.
MOST_SLICES: Final = 20
#: Rows that a baseline is made of: more change no quantile by a hundredth.
MOST_ROWS: Final = 200_000


@dataclass(frozen=True, eq=False)
class Baseline:
    """The layout of the cells, and the statistics of the rows that the model was made or tried with."""

    #: Where the rows came from, in words: "training", "data/customers.parquet", "the stream".
    source: str
    rows: int
    layout: Layout
    statistics: Statistics
    task: Task = "number"
    #: The cells of the model's answer; its name is the model's. None: nothing was scored.
    score: Column | None = None
    #: Column -> the mean answer in each of its cells: what the model makes of a value, by itself.
    effects: Mapping[str, Vector] = field(default_factory=dict)
    #: What a probability is worth, see :func:`streaming.monitor.quality.calibrated`; None without labels.
    worth: Vector | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "format": FORMAT,
            "source": self.source,
            "rows": self.rows,
            "columns": [c.to_json() for c in self.layout.columns],
            "slices": list(self.layout.slices),
            "task": self.task,
            "score": None if self.score is None else self.score.to_json(),
            "statistics": self.statistics.to_json(),
            "effects": {name: [round(x, 9) for x in mean.tolist()] for name, mean in self.effects.items()},
            "worth": None if self.worth is None else [round(x, 9) for x in self.worth.tolist()],
        }

    def to_bytes(self) -> bytes:
        """As the content of a file."""
        return json.dumps(self.to_json()).encode()

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str) -> Baseline:
        """The inverse of :meth:`to_json`. ConfigError, naming `where`, when it is not a baseline that this version reads."""
        if values.get("format") != FORMAT:
            raise ConfigError(
                f"{where}: a baseline of format {values.get('format')!r}; expected {FORMAT}; make it anew: streaming baseline CONFIG"
            )
        try:
            return cls(
                source=str(values["source"]),
                rows=int(values["rows"]),
                layout=Layout(tuple(map(Column.from_json, values["columns"])), tuple(values["slices"])),
                statistics=Statistics.from_json(values["statistics"]),
                task=values["task"],
                score=None if values["score"] is None else Column.from_json(values["score"]),
                effects={name: np.asarray(mean) for name, mean in values["effects"].items()},
                worth=None if values["worth"] is None else np.asarray(values["worth"]),
            )
        except (KeyError, TypeError, ValueError) as broken:
            raise ConfigError(f"{where}: not a whole baseline: {broken!r}; make it anew: streaming baseline CONFIG") from broken

    def slice_value(self, slice_: str) -> str:
        """A slice in words, with the value it stands for: for reports and tables, never for logs, metrics or alerts."""
        name, _, number = slice_.partition("#")
        return f"{name} = {self.layout.column(name).categories[int(number)]}" if number else "all"


@dataclass(frozen=True, eq=False)
class AnsweredRows:
    """What a model answered to some rows, in their order: all arrays of one length. `label`: NaN where it is not known."""

    model: str
    task: Task
    prediction: quality.Floats
    #: The probability of class 1; the prediction itself for other tasks.
    score: quality.Floats
    label: quality.Floats

    @property
    def watched(self) -> pa.Array:
        """What is counted of an answer: the probability, the number, or the class as text."""
        return pa.array(texts_of(self.prediction)) if self.task == "class" else pa.array(self.score, from_pandas=True)


def of_table(
    table: pa.Table, *, columns: Sequence[str], slices: Sequence[str] = (), source: str, scored: pa.Table | None = None,
    answers: AnsweredRows | None = None,
) -> Baseline:  # fmt: skip
    """The baseline of `table`. `answers` belong to the rows of `scored` (None: of `table`): best rows the model has not learned from.

    ConfigError when a slice is no text column, or has no categories.
    """
    described = tuple(
        column(name, array(table, name), most=MOST_SLICES if name in slices else 100) for name in dict.fromkeys((*columns, *slices))
    )
    for name in slices:
        chosen = next(c for c in described if c.name == name)
        if chosen.kind != "category" or not chosen.categories:
            raise ConfigError(f"monitor.slices: {name} is no text column with values in {source}; choose a field with a few categories")
    layout = Layout(described, tuple(slices))
    statistics = of_rows(table, layout)
    if answers is None:
        return Baseline(source, table.num_rows, layout, statistics)
    rows = table if scored is None else scored
    cells = score_column(answers)
    parts = [statistics, of_scores(answers.watched, cells, layout.memberships(rows)), of_answers(rows, layout, answers)]
    total = merged(parts)
    vector = total.get("", f"{QUALITY}{answers.model}")
    worth = quality.calibrated(vector) if vector is not None and answers.task == "probability" else None
    return Baseline(source, table.num_rows, layout, total, answers.task, cells, _effects(rows, layout, answers), worth)


def score_column(answers: AnsweredRows) -> Column:
    """The cells of what a model answers."""
    if answers.task == "probability":
        return probability(answers.model)
    return column(answers.model, answers.watched)


def of_answers(rows: pa.Table, layout: Layout, answers: AnsweredRows) -> Statistics:
    """The quality of the answers whose label is known, for all rows and by slice."""
    known = np.isfinite(answers.label) & np.isfinite(answers.score)
    vectors: dict[tuple[str, str], Vector] = {}
    for names, groups in layout.memberships(rows):
        for i in np.unique(groups[known & (groups >= 0)]):
            of = known & (groups == i)
            vector = quality.of_pairs(answers.prediction[of], answers.score[of], answers.label[of], task=answers.task)
            vectors[names[i], f"{QUALITY}{answers.model}"] = vector
    return Statistics(vectors)


def _effects(rows: pa.Table, layout: Layout, answers: AnsweredRows) -> dict[str, Vector]:
    """The mean score in each cell of each column; the mean of all in a cell without rows."""
    usable = np.where(np.isfinite(answers.score), answers.score, 0.0)
    mean = float(usable.mean()) if len(usable) else 0.0
    means = {}
    for c in layout.columns:
        cell, _ = c.cells(array(rows, c.name))
        n, total = np.bincount(cell, minlength=c.width), np.bincount(cell, weights=usable, minlength=c.width)
        means[c.name] = np.where(n > 0, total / np.maximum(n, 1), mean)
    return means
