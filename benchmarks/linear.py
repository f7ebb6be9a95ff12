"""The churn pipeline as a table of weights, read off its own answers, and the same in scikit-learn: one model for every system.

The log-odds are intercept + the weight of each category + coefficient * number, so differences of the log-odds of rows
that differ in one field are the weights, to the last few bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FILE = "linear.json"
Row = dict[str, Any]


@dataclass(frozen=True)
class Linear:
    """Log-odds = intercept + sum of categorical[field][value] + sum of numeric[field] * value."""

    intercept: float
    categorical: Mapping[str, Mapping[str, float]]
    numeric: Mapping[str, float]
    #: The deviations of the training table: what a scaler divides by.
    scale: Mapping[str, float]


def read_off(
    ask: Callable[[Sequence[Row]], Sequence[float]], categories: Mapping[str, Sequence[str]], numeric: Mapping[str, float]
) -> Linear:
    """The weights of a model. `ask`: rows -> log-odds; `numeric`: field -> the deviation of the training table."""
    base = {**{name: values[0] for name, values in categories.items()}, **dict.fromkeys(numeric, 0)}
    changed = [(name, value) for name, values in categories.items() for value in values] + [(name, 1) for name in numeric]
    first, *said = ask([base, *({**base, name: value} for name, value in changed)])
    gained = {change: odds - first for change, odds in zip(changed, said, strict=True)}
    return Linear(
        intercept=first,
        categorical={name: {value: gained[name, value] for value in values} for name, values in categories.items()},
        numeric={name: gained[name, 1] for name in numeric},
        scale=dict(numeric),
    )


def save(linear: Linear, home: Path) -> None:
    """Write it where :func:`load` looks."""
    (home / FILE).write_text(json.dumps(asdict(linear)))


def load(home: Path) -> Linear:
    """What :func:`save` wrote."""
    return Linear(**json.loads((home / FILE).read_text()))


def frame_pipeline(linear: Linear) -> Pipeline:
    """One-hot, scaler and logistic regression over a pandas frame, with the weights of `linear`."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    values = {name: list(weights) for name, weights in linear.categorical.items()}
    rows = pd.DataFrame(
        [{name: choices[i % len(choices)] for name, choices in values.items()} | dict.fromkeys(linear.numeric, i) for i in range(2)]
    )
    encoder = OneHotEncoder(categories=list(values.values()), handle_unknown="ignore")
    columns = make_column_transformer((encoder, list(values)), (StandardScaler(), list(linear.numeric)), sparse_threshold=0.0)
    model = make_pipeline(columns, LogisticRegression()).fit(rows, [0, 1])
    scaler = columns.named_transformers_["standardscaler"]
    scaler.mean_, scaler.scale_ = np.zeros(len(linear.numeric)), np.array([linear.scale[name] for name in linear.numeric])
    weights = [w for by_value in linear.categorical.values() for w in by_value.values()]
    return _with(model, [*weights, *(w * linear.scale[name] for name, w in linear.numeric.items())], linear.intercept)


def dict_pipeline(linear: Linear) -> Pipeline:
    """The same over dicts, fields that are no features ignored: what one event at a time needs."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [{name: value} for name, by_value in linear.categorical.items() for value in by_value] + [{name: 1.0} for name in linear.numeric]
    model = make_pipeline(DictVectorizer(sparse=False), LogisticRegression()).fit(rows, [i % 2 for i in range(len(rows))])
    by_feature = {f"{name}={value}": w for name, by_value in linear.categorical.items() for value, w in by_value.items()} | dict(
        linear.numeric
    )
    return _with(model, [by_feature[name] for name in model[0].feature_names_], linear.intercept)


def _with(model: Pipeline, weights: Sequence[float], intercept: float) -> Pipeline:
    model[-1].coef_, model[-1].intercept_ = np.array([weights]), np.array([intercept])
    return model
