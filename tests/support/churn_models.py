"""A small churn model in NumPy, written by hand: what the API's tests serve. It reads text and numbers and is linear."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming.api.served import Served
from streaming.errors import ModelError
from streaming.scorers.base import ColumnKind, Columns, Scores

WEIGHTS: dict[str, Any] = {
    "contract": {"Month-to-month": 1.3, "One year": 0.0, "Two year": -1.0},
    "internet_service": {"Fiber optic": 1.0, "DSL": 0.0, "No": -0.7},
    "payment_method": {"Electronic check": 0.4, "Mailed check": 0.0, "Bank transfer": -0.1, "Credit card": -0.1},
    "tech_support": {"Yes": -0.2, "No": 0.4},
    "tenure": -0.03,
    "monthly_charges": 0.01,
}
INTERCEPT = -2.1
ROW: dict[str, Any] = {
    "contract": "Month-to-month",
    "internet_service": "Fiber optic",
    "payment_method": "Electronic check",
    "tech_support": "No",
    "tenure": 5,
    "monthly_charges": 89.9,
}


def expected(row: Mapping[str, Any], *, intercept: float = INTERCEPT) -> float:
    """The churn probability by the formula, one row at a time."""
    z = intercept
    for name, weight in WEIGHTS.items():
        z += weight.get(row.get(name), 0.0) if isinstance(weight, dict) else weight * row[name]
    return float(1.0 / (1.0 + np.exp(-z)))


@dataclass
class Churn:
    """P(churn) of each row; a row without one of its numbers is an error. Unknown categories count nothing."""

    intercept: float = INTERCEPT
    seen: list[int] = field(default_factory=list)

    def inputs(self) -> Mapping[str, ColumnKind]:
        return {name: "text" if isinstance(weight, dict) else "number" for name, weight in WEIGHTS.items()}

    def categories(self) -> Mapping[str, Sequence[str]]:
        return {name: tuple(weight) for name, weight in WEIGHTS.items() if isinstance(weight, dict)}

    def score(self, columns: Columns) -> Scores:
        missing = [name for name in WEIGHTS if name not in columns]
        if missing:
            raise ModelError(f"column {missing[0]}: missing")
        n = len(next(iter(columns.values())))
        self.seen.append(n)
        z = self.intercept + sum(self._parts(columns).values(), np.zeros(n))
        bad = np.isnan(z)
        p = 1.0 / (1.0 + np.exp(-z))
        names = ["tenure", "monthly_charges"]
        errors = [next((f"{name} is null" for name in names if np.isnan(columns[name][i])), None) for i in range(n)]  # type: ignore[call-overload]
        return Scores(np.where(bad, np.nan, (p > 0.5) * 1.0), np.stack([1.0 - p, p], axis=1), errors)

    def _parts(self, columns: Columns) -> dict[str, NDArray[np.float64]]:
        return {
            name: np.array([weight.get(v, 0.0) for v in columns[name]], dtype=np.float64)
            if isinstance(weight, dict)
            else columns[name].astype(np.float64) * weight
            for name, weight in WEIGHTS.items()
        }


class LinearChurn(Churn):
    """The same, and it can say what each field adds to the log-odds."""

    def contributions(self, columns: Columns) -> Mapping[str, NDArray[np.float64]]:
        return self._parts(columns)


class Length:
    """A regression over one vector: its sum."""

    def inputs(self) -> Mapping[str, ColumnKind]:
        return {"features": "vector"}

    def score(self, columns: Columns) -> Scores:
        sums = columns["features"].astype(np.float64).sum(axis=1)
        return Scores(sums, None, [None if np.isfinite(s) else "features: null" for s in sums])


def churn(version: str = "7", scorer: Any = None) -> Served:
    """The churn model, ready to serve."""
    return Served.of(scorer or LinearChurn(), name="churn", version=version, example=ROW)


@dataclass(frozen=True)
class FileSource:
    """Versions in one JSON file, {"version", "intercept"}: what a deployment replaces while the service runs."""

    path: Path

    def put(self, version: str, intercept: float) -> None:
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps({"version": version, "intercept": intercept}))
        partial.replace(self.path)

    def mark(self) -> str:
        stat = self.path.stat()
        return f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"

    def load(self) -> Served:
        try:
            tree = json.loads(self.path.read_text())
            return churn(tree["version"], LinearChurn(float(tree["intercept"])))
        except (ValueError, KeyError) as broken:
            raise ModelError(f"{self.path}: not a model: {broken}") from broken
