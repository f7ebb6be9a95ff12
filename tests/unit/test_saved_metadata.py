"""The metadata of a saved model is read as what it is: stages, and data that Spark's older API describes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streaming.errors import ModelError
from streaming.models.copied import Copy
from streaming.models.spark import metadata

STAGE = {"class": "org.apache.spark.ml.clustering.BisectingKMeansModel", "uid": "b", "paramMap": {"featuresCol": "features"}}
DATA = {"class": "org.apache.spark.mllib.clustering.BisectingKMeansModel", "version": "3.0", "rootId": 1}


def copy(folder: Path, described: Mapping[str, Any]) -> Copy:
    for place, words in described.items():
        file = folder / place / "metadata" / "part-00000"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(words) + "\n")
    names = [str(path.relative_to(folder)) for path in folder.rglob("part-00000")]
    return Copy(uri="m", folder=folder, digests=dict.fromkeys(names, b""), manifest=None, readable=str(folder))


@pytest.mark.parametrize("place", ["", "stages/0_b"])
def test_the_data_of_a_bisecting_k_means_is_no_stage(place: str, tmp_path: Path) -> None:
    top = {} if not place else {"": {"class": "org.apache.spark.ml.PipelineModel", "uid": "p", "paramMap": {"stageUids": ["b"]}}}
    stages = metadata.read(copy(tmp_path, {**top, place: STAGE, f"{place}/data".lstrip("/"): DATA}))
    assert set(stages) == {*top, place}


@pytest.mark.parametrize(
    ("stage", "place", "data"),
    [
        (STAGE, "data", {**DATA, "class": "com.example.Attack"}),
        (STAGE, "other", DATA),
        ({**STAGE, "class": "org.apache.spark.ml.clustering.KMeansModel"}, "data", DATA),
    ],
)
def test_nothing_else_passes_for_such_data(stage: Any, place: str, data: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected the JSON of a Spark ML stage"):
        metadata.read(copy(tmp_path, {"": stage, place: data}))
