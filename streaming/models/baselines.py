"""A model's baseline: made of frames that it has scored, kept in its manifest or in a file of the job, and found again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming.config.load import Config
from streaming.errors import ConfigError
from streaming.models import manifest
from streaming.monitor.baseline import MOST_ROWS, AnsweredRows, Baseline, of_table
from streaming.monitor.quality import Task
from streaming.runtime import files
from streaming.runtime.files import Folder
from streaming.scorers.files import MANIFEST

#: In the folder `monitor` of a job's state.
FILE: Final = "baseline.json"


def of_frames(
    rows: DataFrame, scored: DataFrame, *, columns: Sequence[str], slices: Sequence[str], model: str, task: Task | None, source: str
) -> Baseline:
    """The baseline of `rows`, with the answers in `scored`: columns `prediction`, `probability` (an array, or null) and `_label`.

    At most MOST_ROWS of each are looked at, the first. `task` None: a probability when the answers have two, else a number.
    """
    wanted = list(dict.fromkeys((*columns, *slices)))
    table = _arrow(rows.select(*(F.col(f"`{name}`") for name in wanted)))
    p = F.col("probability")
    answered = _arrow(
        scored.select(
            *(F.col(f"`{name}`") for name in wanted),
            F.col("prediction").cast("double").alias("_prediction"),
            F.when(F.size(p) == 2, p[1]).alias("_score"),
            F.size(p).alias("_classes"),
            F.col("_label").cast("double").alias("_label"),
        ).where(F.col("_prediction").isNotNull())
    )
    return of_table(table, columns=columns, slices=slices, source=source, scored=answered, answers=_answers(answered, model, task))


def _arrow(frame: DataFrame) -> pa.Table:
    return frame.limit(MOST_ROWS).toArrow()


def _answers(table: pa.Table, model: str, task: Task | None) -> AnsweredRows:
    prediction, score, label = (
        np.asarray(pc.fill_null(table.column(name), float("nan")).to_numpy(), dtype=np.float64)
        for name in ("_prediction", "_score", "_label")
    )
    classes = pc.max(table.column("_classes")).as_py() or 0
    decided: Task = task or ("probability" if classes == 2 else "class" if classes > 2 else "number")
    return AnsweredRows(model, decided, prediction, score if decided == "probability" else prediction, label)


def load(config: Config, state: Folder, spark: SparkSession) -> Baseline:
    """The baseline to watch against: the file `monitor.baseline`, else that of the job's state, else that of the model's manifest.

    ConfigError when there is none.
    """
    assert config.monitor is not None
    if config.monitor.baseline is not None:
        where = config.monitor.baseline
        parent, _, name = where.rpartition("/")
        content = files.folder(parent or ".", lambda: spark).read(name)
        if content is None:
            raise ConfigError(f"monitor.baseline: {where}: no such file; make it: streaming baseline CONFIG --data … --out {where}")
        return _fitting(parse(content, where=where), config.monitor.slices)
    content = state.below("monitor").read(FILE)
    if content is not None:
        return _fitting(parse(content, where=f"{config.state}/monitor/{FILE}"), config.monitor.slices)
    described = (manifest.read(spark, config.model.uri) or {}).get(manifest.BASELINE) if config.model.format == "spark" else None
    if not isinstance(described, dict):
        raise ConfigError(
            f"monitor: no baseline of the model at {config.model.uri}; make one of the table that it was trained with: streaming baseline CONFIG "
            "--data TABLE, or of the stream: streaming baseline CONFIG --stream '2 hours' (streaming train writes it by itself)"
        )
    return _fitting(Baseline.from_json(described, where=f"{config.model.uri}/{MANIFEST}: {manifest.BASELINE}"), config.monitor.slices)


def _fitting(baseline: Baseline, slices: Sequence[str]) -> Baseline:
    if set(slices) <= set(baseline.layout.slices):
        return baseline
    raise ConfigError(
        f"monitor.slices: the baseline has no slices of {', '.join(sorted(set(slices) - set(baseline.layout.slices)))}; train again with "
        "them in the config, or make a baseline: streaming baseline CONFIG --data …"
    )


def parse(content: bytes, *, where: str) -> Baseline:
    """A baseline from the bytes of its file. ConfigError when they are none."""
    try:
        values = json.loads(content)
    except ValueError as broken:
        raise ConfigError(f"{where}: not valid JSON: {broken}; make it anew: streaming baseline CONFIG") from broken
    return Baseline.from_json(values if isinstance(values, dict) else {}, where=where)
