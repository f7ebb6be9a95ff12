"""Saved Spark ML pipelines as a Model: vetted before they are loaded, guarded so that no row ever stops a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Final

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.util import DefaultParamsReader
from pyspark.ml.wrapper import JavaParams
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DoubleType, NullType, StringType, StructType

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import copied
from streaming.models.base import OUTPUTS
from streaming.models.columns import check, quoted
from streaming.models.copied import Copy
from streaming.models.spark import metadata as described
from streaming.models.spark.fold.proof import Folding, folding
from streaming.models.spark.guard import FAILED, OWN, Guard, first_failure, is_vector
from streaming.models.spark.metadata import Stage, Task
from streaming.models.spark.vet import vet
from streaming.scorers import signatures

log = logging.getLogger(__name__)

Transform = Callable[[DataFrame], DataFrame]

#: Below this a vector's norm may round to zero.
_TINY: Final = 1e-150


@dataclass(frozen=True)
class SparkModel:
    """A saved pipeline, ready to score a stream or a batch. Made by :func:`load`."""

    uri: str
    spark: SparkSession = field(repr=False)
    #: All stages of the saved model, nested pipelines flattened.
    stages: tuple[Stage, ...]
    #: The stages that the prediction needs, each with the function that runs it, in order.
    steps: tuple[tuple[Stage, Transform], ...] = field(repr=False)
    predictor: Stage
    kind: Task
    #: Sha256 of the model's files.
    fingerprint: str
    manifest: dict[str, object] | None = field(repr=False)
    #: The fitted stage that predicts, as Spark ML has it in Python.
    fitted: Any = field(repr=False)
    #: The vetted files: whoever reads a stage's folder again reads it here.
    copy: Copy = field(repr=False, compare=False)
    why_not_jvm: Sequence[str] = ()
    #: "auto": folded into plain expressions where that is proven equal. "never": always the guarded stages.
    fold: str = "auto"
    _foldings: dict[str, Folding] = field(default_factory=dict, repr=False, compare=False)

    @property
    def runs_in_jvm(self) -> bool:
        """True when no stage needs Python, so that real-time mode can take the model."""
        return not self.why_not_jvm

    @property
    def output_columns(self) -> tuple[str, ...]:
        """The columns that the pipeline itself writes, by its own names. They never meet the event's columns."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.outputs))

    def inputs(self) -> StructType:
        """The columns that the pipeline reads from an event. DoubleType: any number or boolean. NullType: any type."""
        return described.schema(described.inputs_of([stage for stage, _ in self.steps]))

    def transform(self, events: DataFrame) -> DataFrame:
        """Score each row, see :class:`streaming.models.base.Model`. Lazy.

        An event column may have the name of a column that the pipeline writes; the two never meet. Only the four
        names of OUTPUTS are taken: ModelError when an event has one of them, or lacks a column the pipeline reads.
        """
        check(self.uri, self.inputs(), events.schema)
        folded = self.folding(events.schema).folded
        return folded.apply(events) if folded is not None else self.guarded(events)

    def guarded(self, events: DataFrame) -> DataFrame:
        """:meth:`transform` by Spark ML's own stages: the original that every other form of the model is compared with."""
        check(self.uri, self.inputs(), events.schema)
        return score(self, events, Guard(self.spark, self.uri, frozenset(self.inputs().fieldNames())))

    def folding(self, schema: StructType) -> Folding:
        """Whether events of these types are scored by one plain expression; if not, why. Decided once."""
        if self.fold == "never":
            return Folding(None, "model.fold is never")
        key = str([(column, schema[column].dataType) for column in schema.fieldNames()])
        if key not in self._foldings:
            self._foldings[key] = folding(self, schema)
        return self._foldings[key]


def load(section: SavedModel, spark: SparkSession) -> SparkModel:
    """The model at `section.uri`, vetted, loaded and tried on an empty stream. ModelError when it is not fit to run."""
    copy = copied.checked(section, copied.take(spark, section.uri))
    signatures.check(section, copy.folder)
    return open_copy(section, copy, spark)


def open_copy(section: SavedModel, copy: Copy, spark: SparkSession) -> SparkModel:
    """The model in a copy whose fingerprint has been checked: vetted, loaded and tried. ModelError when it is not fit to run."""
    stages = vet(section, copy, spark)
    predictor, kind = described.predictor(section.uri, stages)
    steps, fitted = _open(section, copy, spark, stages, predictor)
    model = SparkModel(section.uri, spark, stages, steps, predictor, kind, copy.sha256, copied.vouched(section, copy), fitted, copy)
    why = _rehearse(model)
    log.info(
        "model=%s version=%s kind=%s stages=%d sha256=%s jvm=%s", section.name, section.version, kind, len(stages), copy.sha256, not why
    )
    return replace(model, why_not_jvm=why, fold=section.fold)


def last_stage(model: SparkModel) -> Any:
    """The fitted stage that predicts, such as a LogisticRegressionModel."""
    return model.fitted


def _open(
    section: SavedModel, copy: Copy, spark: SparkSession, stages: Sequence[Stage], predictor: Stage
) -> tuple[tuple[tuple[Stage, Transform], ...], Any]:
    """Load each stage that the prediction needs by itself, from its own folder."""
    upto = stages[: predictor.index + 1]
    wanted = described.needed(upto, {str(predictor.params["predictionCol"])})
    steps: list[tuple[Stage, Transform]] = []
    fitted: Any = None
    for stage in wanted:
        try:
            loaded = _load_stage(spark, stage, f"{copy.readable}/{stage.folder}".rstrip("/"))
        except (Py4JError, PySparkException, ImportError, AttributeError, TypeError, ValueError) as refused:
            raise ModelError(f"{section.uri}: {stage} cannot be loaded: {cause(refused)}; expected a model saved by Spark {spark.version} or older, "
                             "and its class installed") from refused  # fmt: skip
        transform = getattr(loaded, "transform", None)
        if not isinstance(loaded, Transformer) or transform is None:
            raise ModelError(f"{section.uri}: {stage} is not fitted: call fit and save the result")
        steps.append((stage, transform))
        fitted = loaded
    return tuple(steps), fitted


def _load_stage(spark: SparkSession, stage: Stage, path: str) -> Any:
    name = stage.class_name
    if not name.startswith("org.apache.spark.ml.") and _importable(name):
        return DefaultParamsReader.loadParamsInstance(path, spark)
    java: Any = spark._jvm
    for part in name.split("."):
        java = getattr(java, part)
    loaded = java.load(path)
    return JavaParams._from_java(loaded) if _importable(name.replace("org.apache.spark", "pyspark")) else _JvmStage(loaded, spark)


class _JvmStage(Transformer):
    """A stage that has no class in Python."""

    def __init__(self, java: Any, spark: SparkSession) -> None:
        super().__init__()
        self._java, self._spark = java, spark

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return DataFrame(self._java.transform(dataset._jdf), self._spark)


def _importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(import_module(module), attribute)
    except ImportError:
        return False


def score(model: SparkModel, events: DataFrame, guard: Guard) -> DataFrame:
    """The events with the four outputs. The pipeline sees copies of the columns it reads, under the names it expects."""
    names = events.columns
    kept = [quoted(name).alias(f"{OWN}event{i}") for i, name in enumerate(names)]
    rows = events.select(*kept, *_visible(model, events), F.lit(None).cast("int").alias(FAILED))
    rows = _vectors(model, rows, guard)
    for stage, transform in model.steps:
        rows = _null_unsafe(stage, rows, guard)
        try:
            rows = guard.apply(stage, rows, transform)
        except (Py4JJavaError, PySparkException) as refused:
            raise ModelError(f"{model.uri}: {stage} cannot run on a stream: {_advice(stage, rows, cause(refused))}") from refused
    return _outputs(model, rows, guard).select(
        *(F.col(f"{OWN}event{i}").alias(name) for i, name in enumerate(names)), *(F.col(f"{OWN}{name}").alias(name) for name in OUTPUTS)
    )


def _visible(model: SparkModel, events: DataFrame) -> list[Column]:
    """What the pipeline gets to see: the columns it reads; with stages of unknown classes, all that are not in its way."""
    actual = {name.lower(): name for name in events.columns}
    reads = {name: actual[name.lower()] for name in model.inputs().fieldNames()}
    if any(not stage.builtin for stage, _ in model.steps):
        taken = {name.lower() for name in (*reads, *model.output_columns)}
        reads |= {name: name for name in events.columns if name.lower() not in taken and not name.startswith("_")}
    return [quoted(name).alias(seen) for seen, name in reads.items()]


def _vectors(model: SparkModel, rows: DataFrame, guard: Guard) -> DataFrame:
    """Arrays made vectors where the pipeline reads vectors: JSON has no vectors."""
    vectors = {
        f.name: array_to_vector(quoted(f.name).cast("array<double>"))
        for f in model.inputs().fields
        if f.dataType == ArrayType(DoubleType()) and isinstance(rows.schema[f.name].dataType, ArrayType)
    }
    if not vectors:
        return rows
    names = tuple(vectors)
    stage = Stage(-1, "streaming.Input", "input", names, names, {})
    return guard.apply(stage, rows, lambda frame: frame.withColumns(vectors))


def _null_unsafe(stage: Stage, rows: DataFrame, guard: Guard) -> DataFrame:
    """Null in place of the few values on which Spark ML fails with a Java Error, which no guard may catch."""
    if stage.params.get("distanceMeasure") != "cosine" or not stage.inputs or not is_vector(rows, stage.inputs[0]):
        return rows
    name = stage.inputs[0]
    array = F.when(quoted(name).isNotNull(), vector_to_array(quoted(name)))
    good = ((F.array_max(array) > _TINY) | (F.array_min(array) < -_TINY)) & ~F.isnan(F.array_max(array))
    number = guard.failures.number(f"{stage.flow()}: {name} is the zero vector or has NaN; cosine distance is not defined for it")
    rows = rows.withColumn(FAILED, first_failure([(quoted(name).isNotNull() & ~F.coalesce(good, F.lit(False)), number)]))
    return rows.withColumn(name, F.when(F.col(FAILED).isNull(), quoted(name)).alias(name, metadata=rows.schema[name].metadata))


def _outputs(model: SparkModel, rows: DataFrame, guard: Guard) -> DataFrame:
    """The four outputs under names of our own. A prediction or probability that is no number is a failure too."""
    stage = model.predictor
    prediction = quoted(str(stage.params["predictionCol"])).cast("double")
    number = guard.failures.number
    rows = rows.withColumn(f"{OWN}p", prediction)
    p = F.col(f"{OWN}p")
    checks = [
        (p.isNull(), number(f"{stage.flow()}: prediction is null")),
        (F.isnan(p), number(f"{stage.flow()}: prediction is NaN")),
        (F.abs(p) == float("inf"), number(f"{stage.flow()}: prediction is infinite")),
    ]
    probability = _array(rows, stage.params.get("probabilityCol"))
    if probability is not None:
        rows = rows.withColumn(f"{OWN}q", probability)
        worst = F.array_max(f"{OWN}q")
        checks.append((worst.isNull() | F.isnan(worst), number(f"{stage.flow()}: probability is null or NaN")))
    rows = rows.withColumn(FAILED, first_failure(checks))
    good = F.col(FAILED).isNull()
    features = _array(rows, stage.params.get("featuresCol"))
    empty = F.lit(None).cast("array<double>")
    return rows.withColumns(
        {
            f"{OWN}prediction": F.when(good, p),
            f"{OWN}probability": empty if probability is None else F.when(good, F.col(f"{OWN}q")),
            f"{OWN}features": empty if features is None else F.when(good, features),
            f"{OWN}error": guard.failures.words(),
        }
    )


def _array(rows: DataFrame, name: Any) -> Column | None:
    """A vector column as an array, null where the vector is (`vector_to_array` itself throws there); None without such a column."""
    if not name or name not in rows.columns or not is_vector(rows, name):
        return None
    return F.when(quoted(name).isNotNull(), vector_to_array(quoted(name)))


def _rehearse(model: SparkModel) -> tuple[str, ...]:
    """Plan the model on an empty stream: what a stage does to a stream shows here, not at the first event. Returns what needs Python.

    Of a column that may have any type, text is tried first, then what a statement accepts: one that fits is enough, since
    which type an event has is not known yet.
    """
    refused: ModelError | None = None
    for example in (StringType(), NullType(), DoubleType()):
        inputs = {f.name: example if isinstance(f.dataType, NullType) else f.dataType for f in model.inputs().fields}
        try:
            return _planned(model, inputs)
        except ModelError as error:
            refused = refused or error
        if NullType() not in [f.dataType for f in model.inputs().fields]:
            break
    assert refused is not None
    raise refused


def _planned(model: SparkModel, inputs: Mapping[str, DataType]) -> tuple[str, ...]:
    source = model.spark.readStream.format("rate").load()
    events = source.select(*(F.lit(None).cast(kind).alias(name) for name, kind in inputs.items()))
    guard = Guard(model.spark, model.uri, frozenset(inputs))
    score(model, events, guard)
    return tuple(f"{stage} is computed in Python" for stage in guard.python)


def _advice(stage: Stage, rows: DataFrame, reason: str) -> str:
    if stage.name == "VectorAssembler" and ("VectorSizeHint" in reason or "writeStream" in reason or "streaming" in reason.lower()):
        unsized = [
            name for name in stage.inputs if name in rows.columns and is_vector(rows, name) and not _size(rows.schema[name].metadata)
        ]
        return f"the vector {', '.join(unsized)} does not say its size; put a VectorSizeHint before the stage and save the pipeline again"
    if stage.name == "Interaction":
        return f"{reason}; its columns need attributes: put a OneHotEncoder or a VectorAssembler before it"
    return reason


def _size(metadata: dict[str, Any]) -> bool:
    """True when the metadata of a vector column says how long the vectors are."""
    attributes = metadata.get("ml_attr", {})
    return "num_attrs" in attributes or "attrs" in attributes


def cause(error: BaseException) -> str:
    """The first line of what Spark says."""
    if isinstance(error, Py4JJavaError):
        return str(error.java_exception).splitlines()[0]
    return (str(error).splitlines() or [type(error).__name__])[0]
