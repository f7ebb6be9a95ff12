"""What drives a prediction: the contribution of each field, exact for linear models, by leaving the field out for all others.

linear: contribution_f = sum of weight * value over the features made of field f; it is in log-odds for a classifier.
occlusion: contribution_f = output(row) - output(row without f), where "without" is null, or 0 or "" if the model cannot
score a null there.

`effect_f` says the same for people, in the output's own unit (a probability, or the prediction of a regression):
how far the output moves when the field is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streaming.api.dataplane import failure, finite
from streaming.api.instances import columns
from streaming.api.served import Explains, Served
from streaming.scorers.base import ColumnKind, Scores

#: What stands for "left out" when the model cannot score a null.
_EMPTY: Final[dict[ColumnKind, object]] = {"number": 0.0, "text": ""}
#: Log-odds are taken of probabilities this far from 0 and 1: beyond, a double has no digits left to tell.
_EDGE: Final = 1e-12


def explanations(served: Served, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """One explanation per row, in their order, greatest effect first; the rows have no problems."""
    read = columns(rows, served.inputs)
    scores = served.scorer.score(read)
    linear = served.scorer.contributions(read) if isinstance(served.scorer, Explains) and rows else None
    return [_explain(served, row, scores, i, linear) for i, row in enumerate(rows)]


def _explain(
    served: Served, row: Mapping[str, Any], scores: Scores, i: int, linear: Mapping[str, NDArray[np.float64]] | None
) -> dict[str, object]:
    error, predicted = scores.error[i], float(scores.prediction[i])
    if error is not None or not math.isfinite(predicted):
        return failure(served, error or "the prediction is not a finite number")
    target = _target(scores, i)
    output = _outputs(scores, target)[i]
    shares = None if scores.probability is None else finite(scores.probability[i].tolist())
    contributions: dict[str, float | None]
    effects: dict[str, float | None]
    if linear is None:
        contributions = effects = _occluded(served, row, target, float(output))
    else:
        weighed = {name: float(values[i]) for name, values in linear.items() if math.isfinite(values[i])}
        contributions = dict(weighed)
        effects = {name: _linear_effect(float(output), value, target) for name, value in weighed.items()}
    drivers = [{"field": name, "contribution": contributions[name], "effect": effects[name]} for name in contributions]
    return {
        "prediction": predicted,
        "probability": shares,
        "model": served.name,
        "model_version": served.version,
        "method": "occlusion" if linear is None else "linear",
        "unit": "log-odds" if linear is not None and target is not None else "prediction" if target is None else "probability",
        "class": target,
        "output": float(output),
        "contributions": sorted(drivers, key=lambda each: -abs(each["effect"] or 0.0)),  # type: ignore[arg-type]
    }


def _target(scores: Scores, i: int) -> int | None:
    """The class whose probability is explained: 1 of two, the predicted one of many; None when there are no probabilities."""
    if scores.probability is None or not np.isfinite(scores.probability[i]).all() or scores.probability.shape[1] == 0:
        return None
    classes = scores.probability.shape[1]
    return 1 if classes == 2 else int(np.argmax(scores.probability[i]))


def _outputs(scores: Scores, target: int | None) -> NDArray[np.float64]:
    return scores.prediction if target is None or scores.probability is None else scores.probability[:, target]


def _occluded(served: Served, row: Mapping[str, Any], target: int | None, output: float) -> dict[str, float | None]:
    """Per field how far the output lies from what it is without the field; None where the model cannot do without."""
    names = list(served.inputs)
    moved: dict[str, float | None] = dict.fromkeys(names)
    for empty in (False, True):
        left = [name for name in names if moved[name] is None and (not empty or served.inputs[name] in _EMPTY)]
        if not left:
            break
        scores = served.scorer.score(_without(served, row, left, empty=empty))
        outputs = _outputs(scores, target)
        for j, name in enumerate(left):
            if scores.error[j] is None and math.isfinite(outputs[j]):
                moved[name] = output - float(outputs[j])
    return moved


def _without(served: Served, row: Mapping[str, Any], names: Sequence[str], *, empty: bool) -> dict[str, NDArray[Any]]:
    """The row once for each name, with that field left out."""
    size = {name: len(row[name]) for name, kind in served.inputs.items() if kind == "vector" and row.get(name) is not None}
    read = columns([row] * len(names), served.inputs)
    for j, name in enumerate(names):
        kind = served.inputs[name]
        if kind == "vector":
            read[name][j] = np.full(size.get(name, 0), math.nan)
        else:
            read[name][j] = _EMPTY[kind] if empty else math.nan if kind == "number" else None
    return read


def _linear_effect(output: float, contribution: float, target: int | None) -> float:
    """How far the output moves when the contribution is taken away: its own size, or on the logistic curve."""
    if target is None:
        return contribution
    share = min(max(output, _EDGE), 1.0 - _EDGE)
    return share - _sigmoid(math.log(share / (1.0 - share)) - contribution)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
