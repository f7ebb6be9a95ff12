"""How a learner without weights (a River model) reaches the score lane: its whole state in a file, scored by Python.

Real-time mode refuses Python, so such a learner asks for micro-batches. Each task reads the file as it begins: a new
state is in force at the next micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DoubleType, StringType, StructField, StructType

from streaming.config.sections import LearnerSection
from streaming.learning import weights_file
from streaming.online import algorithms
from streaming.online.base import Array, Learner, pack, unpack
from streaming.runtime.files import Folder

_FOLDER: Final = "states"

_ANSWER: Final = StructType(
    [StructField("version", StringType()), StructField("prediction", DoubleType()), StructField("probability", ArrayType(DoubleType()))]
)
_ANSWER_ARROW: Final = pa.struct([("version", pa.string()), ("prediction", pa.float64()), ("probability", pa.list_(pa.float64()))])


def names(learners: Sequence[LearnerSection]) -> list[str]:
    """The learners that Python has to score."""
    return [learner.name for learner in learners if learner.algorithm in algorithms.OPAQUE]


def publish(folder: Folder, name: str, version: str, state: Any) -> None:
    """Put a state in force under its version; atomic."""
    content = version.encode() + b"\n" + pack(state)
    if folder.below(_FOLDER).read(name) != content:
        folder.below(_FOLDER).replace(name, content)


def read(content: bytes, learner: Learner[Any, Any]) -> tuple[str, Any]:
    """The version and the state in a published file."""
    version, _, state = content.partition(b"\n")
    return version.decode(), unpack(learner.state_type, state)


def score(events: DataFrame, learners: Sequence[LearnerSection], state: str) -> DataFrame:
    """Add a column for each learner, as :func:`streaming.learning.weights_file.score` does. `state`: the job's state folder."""
    made = {section.name: algorithms.make(section.algorithm, section.params) for section in learners}
    columns = [StructField(weights_file.column(name), _ANSWER) for name in made]
    return events.mapInArrow(_over(made, f"{state}/{_FOLDER}"), StructType([*events.schema.fields, *columns]))


def _over(learners: Mapping[str, Learner[Any, Any]], where: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        published = {name: None if (content := _bytes(f"{where}/{name}")) is None else read(content, own) for name, own in learners.items()}
        for batch in batches:
            features = batch.column(batch.schema.get_field_index("features"))
            answers = [answer(features, learner, published[name]) for name, learner in learners.items()]
            fields = [pa.field(weights_file.column(name), _ANSWER_ARROW) for name in learners]
            yield pa.RecordBatch.from_arrays([*batch.columns, *answers], schema=pa.schema([*batch.schema, *fields]))

    return task


def answer(features: pa.Array, learner: Learner[Any, Any], published: tuple[str, Any] | None) -> pa.Array:
    """STRUCT<version, prediction, probability> per row; null fields where there is no version or no finite features."""
    n = len(features)
    if published is None:
        return pa.nulls(n, _ANSWER_ARROW)
    version, state = published
    X, usable = _matrix(features, state.d)
    scored = learner.score(state, X[usable])
    rows: list[dict[str, Any] | None] = [None] * n
    probability = [None] * len(X) if scored.probability is None else scored.probability.tolist()
    for i, prediction, p in zip(np.flatnonzero(usable).tolist(), scored.prediction.tolist(), probability, strict=False):
        rows[i] = {"version": version, "prediction": prediction, "probability": p}
    return pa.array(rows, _ANSWER_ARROW)


def _matrix(features: pa.Array, d: int) -> tuple[Array, NDArray[np.bool_]]:
    """Features (n, d), and which rows have d finite ones."""
    usable = pc.fill_null(pc.list_value_length(features), -1).to_numpy(zero_copy_only=False) == d
    X = np.full((len(features), d), np.nan)
    if usable.any():
        flat = features.filter(pa.array(usable)).flatten().to_numpy(zero_copy_only=False).astype(float)
        X[usable] = flat.reshape(-1, d)
    return X, usable & np.isfinite(X).all(axis=1)


def _bytes(uri: str) -> bytes | None:
    """The file's content on whatever file system it lives, or None when there is none."""
    from pyarrow import fs

    if urlsplit(uri).scheme:
        # Hadoop says s3a for what everybody else calls s3.
        system, path = fs.FileSystem.from_uri(uri.replace("s3a://", "s3://", 1))
    else:
        system, path = fs.LocalFileSystem(), uri
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
