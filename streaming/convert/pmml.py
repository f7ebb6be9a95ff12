"""A saved Spark pipeline as PMML, made by JPMML-SparkML, whose jars come with the package pyspark2pmml (AGPL-3.0).

PMML has no evaluator in Python that could be asked here, so its answers are not compared as those of ONNX are. Instead
the file carries rows with the answers that Spark gave to them (`ModelVerification`): a PMML engine that keeps to the
standard checks itself against them when it opens the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyspark2pmml
from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, NullType, StringType, StructField, StructType

from streaming.convert import rows
from streaming.convert.spark import kinds_of, known_labels, known_types
from streaming.errors import ModelError
from streaming.models import sparkml
from streaming.models.sparkml import SparkModel, cause
from streaming.sections import SavedModel

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows in the file that an engine checks itself against.
N_ROWS: Final = 20
_PRECISION: Final = 1e-9


def write(section: SavedModel, spark: SparkSession | None, out: str | Path, *, rows: pa.Table | None = None) -> str:
    """Write the model as the PMML file `out`, whole or not at all; returns a sentence about it. ModelError names what has no PMML.

    `rows`: the rows to be put into the file with Spark's answers, instead of generated ones.
    """
    if section.format != "spark" or spark is None:
        raise ModelError(f"{section.uri}: only Spark pipelines can be written as PMML, this is {section.format}; use --to onnx")
    model = sparkml.load(section, spark)
    events = _events(model, rows)
    with _classes(spark) as loader:
        content = _build(model, events, loader)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return f"{section.uri} is now also at {target} (PMML; not compared here: it holds {events.count()} rows with Spark's answers, for the engine that opens it)"


def _events(model: SparkModel, given: pa.Table | None) -> DataFrame:
    """Rows that the model can score, with the types of its inputs."""
    kinds, types = kinds_of(model.inputs()), known_types(model)
    odd = [name for name, kind in kinds.items() if kind == "vector"]
    if odd:
        raise ModelError(f"{model.uri}: the input {odd[0]!r} is a vector, which PMML does not have; put a VectorAssembler before it")
    fields = [
        StructField(column.name, StringType() if isinstance(column.dataType, NullType) else column.dataType)
        for column in model.inputs().fields
    ]
    if given is not None:
        table = model.spark.createDataFrame(given.slice(0, N_ROWS))
    else:
        made = rows.generate(20 * N_ROWS, kinds, labels=known_labels(model), types=types)
        ordinary = [i for i in range(20 * N_ROWS) if all(values[i] is not None and values[i] == values[i] for values in made.values())]
        listed = [
            tuple(made[field.name][i].item() if isinstance(field.dataType, DoubleType) else made[field.name][i] for field in fields)
            for i in ordinary
        ]
        table = model.spark.createDataFrame(listed, StructType(fields))
    cast = [
        F.col(f"`{field.name}`").cast(types.get(field.name.lower(), field.dataType.simpleString())).alias(field.name) for field in fields
    ]
    table = table.select(*cast).localCheckpoint()
    return model.transform(table).where("error IS NULL").select(*(f"`{field.name}`" for field in fields)).limit(N_ROWS).localCheckpoint()


@contextmanager
def _classes(spark: SparkSession) -> Iterator[Any]:
    """A class loader with JPMML's jars before Spark's own: Spark brings an older PMML library with classes of the same names."""
    jvm: Any = spark._jvm
    gateway: Any = spark.sparkContext._gateway
    paths = [path for path in pyspark2pmml.spark_jars().split(",") if path]
    urls = gateway.new_array(jvm.java.net.URL, len(paths))
    for place, path in enumerate(paths):
        urls[place] = jvm.java.io.File(path).toURI().toURL()
    thread = jvm.java.lang.Thread.currentThread()
    before = thread.getContextClassLoader()
    loader = jvm.org.apache.spark.util.ChildFirstURLClassLoader(urls, before)
    thread.setContextClassLoader(loader)
    try:
        yield loader
    finally:
        thread.setContextClassLoader(before)
        loader.close()


def _build(model: SparkModel, events: DataFrame, loader: Any) -> bytes:
    stages = [transform.__self__ for _, transform in model.steps]  # type: ignore[attr-defined]
    pipeline: Any = PipelineModel(stages)
    label = model.predictor.params.get("labelCol")
    schema: Any = events
    # A supervised model names its label; JPMML wants to see that column, which an event does not have.
    if label and label not in events.columns:
        schema = events.withColumn(str(label), F.lit(0.0))
    spark: Any = model.spark
    arguments = spark.sparkContext._gateway.new_array(spark._jvm.java.lang.Object, 2)
    arguments[0], arguments[1] = schema._jdf.schema(), pipeline._to_java()
    try:
        constructors = loader.loadClass("org.jpmml.sparkml.PMMLBuilder").getConstructors()
        made = next(c for c in constructors if c.toString().endswith("PipelineModel)")).newInstance(arguments)
        # JPMML scores the rows with the whole pipeline, so they need no label either.
        made.verify(schema._jdf, _PRECISION, _PRECISION)
        return bytes(made.buildByteArray())
    except Py4JJavaError as refused:
        raise ModelError(f"{model.uri}: cannot be written as PMML: {_why(refused)}; its stages: "
                         f"{', '.join(str(stage) for stage, _ in model.steps)}; use --to onnx") from refused  # fmt: skip


def _why(refused: Py4JJavaError) -> str:
    inner = refused.java_exception.getCause()
    return cause(refused) if inner is None or not inner.getMessage() else str(inner.getMessage()).splitlines()[0]
