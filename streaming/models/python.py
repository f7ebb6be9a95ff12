"""Any scorer as a Model: Python workers get the columns that the scorer reads, in Arrow batches, and nothing else.

The event's other columns never leave the JVM. The driver reads the model's files once, from wherever Hadoop reaches,
checks them, and broadcasts the bytes: executors need no access to the storage, and open what was checked. Each Python
worker process opens the model once and keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, DoubleType, NullType, NumericType, StringType, StructField, StructType

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest
from streaming.models.base import OUTPUTS
from streaming.models.columns import check, quoted
from streaming.runtime.files import is_local
from streaming.scorers import child, files, signatures, worker
from streaming.scorers.base import ColumnKind
from streaming.scorers.files import Package

_TYPES: Final[dict[ColumnKind, DataType]] = {"number": DoubleType(), "text": StringType(), "vector": ArrayType(DoubleType())}
#: What an event may have where a scorer reads text: numbers are spelled as Spark's cast does it.
_SPELLED: Final = (StringType, NumericType, BooleanType)
_ANSWER: Final = "__streaming_answer"
_ANSWER_TYPE: Final = "prediction DOUBLE, probability ARRAY<DOUBLE>, error STRING"


@dataclass(frozen=True)
class PythonModel:
    """A scorer on a stream. Made by :func:`model`."""

    uri: str
    spark: SparkSession = field(repr=False)
    kinds: Mapping[str, ColumnKind]
    #: Sha256 of the model's files.
    fingerprint: str
    why_not_jvm: Sequence[str]
    _score: Callable[..., Any] = field(repr=False)
    runs_in_jvm: bool = False

    def inputs(self) -> StructType:
        """The columns the scorer reads, see :func:`accepted`."""
        return accepted(self.kinds)

    def transform(self, events: DataFrame) -> DataFrame:
        """Score each row, see :class:`streaming.models.base.Model`. ModelError when the events do not fit the model."""
        actual = check(self.uri, self.inputs(), events.schema)
        read = [readable(kind, events.schema[actual[in_event(name).lower()]]) for name, kind in self.kinds.items()]
        kept = [quoted(name) for name in events.columns]
        # Called nondeterministic so that the optimizer neither copies nor moves the call: one call, one answer.
        answer = F.arrow_udf(self._score, _ANSWER_TYPE).asNondeterministic()(*read)  # type: ignore[attr-defined, unused-ignore]
        outputs = {name: F.col(_ANSWER)[name] for name in ("prediction", "probability", "error")}
        outputs["features"] = F.lit(None).cast("array<double>")
        return events.select(*kept, answer.alias(_ANSWER)).select(*kept, *(outputs[name].alias(name) for name in OUTPUTS))


def load(section: SavedModel, spark: SparkSession) -> PythonModel:
    """The model at `section.uri`, checked and opened here, too: a broken one shows now. ModelError when it may not, or cannot, be opened."""
    package, open_ = signatures.admitted(section, fetch(spark, section.uri)), partial(child.open_scorer, section=section)
    scorer = open_(package)
    shared = spark.sparkContext.broadcast(package)
    # What beside the bytes decides what is opened.
    name = f"{package.sha256}:{section.format}:{section.allow_classes}"
    why = f"{section.format} models are computed in Python workers"
    return PythonModel(package.uri, spark, scorer.inputs(), package.sha256, (why,), worker.scoring(shared, name, open_, scorer.inputs()))


def fetch(spark: SparkSession, uri: str) -> Package:
    """The model's files, from any storage that Hadoop reaches. ModelError when there are none."""
    if is_local(uri):
        return files.read(uri)
    fs, path = manifest.at(spark, uri)
    root = uri.rstrip("/")
    if not fs.exists(path):
        raise ModelError(f"{uri}: no such model; check model.uri")
    if fs.getFileStatus(path).isDirectory():
        content = {name: manifest.content(spark, f"{root}/{name}") for name in manifest.files(spark, uri) if files.is_part(name)}
        return Package(uri, content, True)
    return Package(uri, {root.rsplit("/", 1)[-1]: manifest.content(spark, uri)}, False)


def accepted(kinds: Mapping[str, ColumnKind]) -> StructType:
    """The event's columns for what a scorer reads: DOUBLE for a number of any type, NullType for text (numbers are spelled), ARRAY<DOUBLE>."""
    return StructType([StructField(in_event(name), NullType() if kind == "text" else _TYPES[kind]) for name, kind in kinds.items()])


def in_event(name: str) -> str:
    """The event's column for what a scorer reads as `name`: the same, but for names that the outputs need."""
    return f"input_{name}" if name.lower() in OUTPUTS else name


def readable(kind: ColumnKind, column: StructField) -> Column:
    """The column in the one Arrow type of its kind; the JVM casts faster than Python."""
    value, has = quoted(column.name), column.dataType
    if kind == "vector" and isinstance(has, VectorUDT):
        # vector_to_array itself throws on null.
        return F.when(value.isNotNull(), vector_to_array(value))
    if kind != "vector" and not isinstance(has, _SPELLED):
        raise ModelError(f"column {column.name!r}: the model reads {kind}; the event has it as {has.simpleString()}")
    return value.cast(_TYPES[kind])
