"""What makes the features of a saved pipeline, as one fingerprint: the same when a pipeline is trained again and only its predictor differs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from streaming.models.base import Model
from streaming.models.spark.metadata import Stage
from streaming.models.spark.pipeline import SparkModel


def made_by(model: Model) -> str | None:
    """A fingerprint of the stages before the predictor: classes, columns, parameters and fitted data, without the names Spark makes up.

    None for a model that gives no features.
    """
    if not isinstance(model, SparkModel):
        return None
    makers = [stage for stage, _ in model.steps if stage.uid != model.predictor.uid]
    told = [_told(stage) | {"data": _data(model, stage)} for stage in makers]
    text = _nameless(json.dumps(told, sort_keys=True, default=str), model.stages)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told(stage: Stage) -> dict[str, object]:
    return {"class": stage.class_name, "inputs": stage.inputs, "outputs": stage.outputs, "params": dict(stage.params)}


def _data(model: SparkModel, stage: Stage) -> list[str]:
    """What the stage has learned, by the content of its files, which were vetted; their names are random."""
    place = f"{stage.folder}/data/"
    return [digest.hex() for name, digest in sorted(model.copy.digests.items()) if name.startswith(place) and name.endswith(".parquet")]


def _nameless(text: str, stages: Sequence[Stage]) -> str:
    """The text with every uid replaced by the stage's place."""
    for place, stage in enumerate(stages):
        text = re.sub(re.escape(stage.uid), f"#{place}", text)
    return text
