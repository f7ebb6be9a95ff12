"""A saved Spark pipeline as PMML, made by JPMML-SparkML, whose jars come with the package pyspark2pmml (AGPL-3.0).

What is written has been evaluated first, by an engine that has no code in common with the one that wrote it (PMML4S,
which also scores `model.format: pmml`), and compared with Spark's own answers. The file also carries rows with the
answers of Spark (`ModelVerification`): a PMML engine that keeps to the standard checks itself when it opens the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow
import pyspark2pmml
from numpy.typing import NDArray
from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, NullType, StringType, StructField

from streaming.config.sections import SavedModel
from streaming.convert.spark.pipeline import kinds_of
from streaming.errors import ModelError
from streaming.models.spark import pipeline as sparkml
from streaming.models.spark.known import known_labels, known_types
from streaming.models.spark.pipeline import SparkModel, cause
from streaming.runtime.files import write_whole
from streaming.scorers import columns, compare, rows
from streaming.scorers.base import Scores
from streaming.scorers.files import Package
from streaming.scorers.pmml import open_pmml

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows in the file that an engine checks itself against.
N_ROWS: Final = 20
#: Rows that are generated to be compared; those with a null are not: what a missing value is, engines disagree on.
COMPARED: Final = 2_000
_PRECISION: Final = 1e-9


def write(section: SavedModel, spark: SparkSession | None, out: str | Path, *, rows: pa.Table | None = None) -> str:
    """Write the model as the PMML file `out`, whole or not at all; returns the report of the comparison.

    `rows`: the rows to compare on, instead of generated ones. ModelError names what has no PMML, and says how the
    document's answers differ when they do: then nothing is written.
    """
    if section.format != "spark" or spark is None:
        raise ModelError(f"{section.uri}: only Spark pipelines can be written as PMML, this is {section.format}; use --to onnx")
    model = sparkml.load(section, spark)
    events = _events(model, rows)
    content = document(model, events=events)
    report = compare.demand(compared(model, content, events), section.uri)
    target = Path(out)
    with write_whole(target) as partial:
        partial.write_bytes(content)
    return f"{report.text()}\n{section.uri} is now also at {target} (PMML)"


def document(model: SparkModel, *, events: DataFrame | None = None) -> bytes:
    """The PMML document, not compared yet. `events`: what :func:`_events` gives. ModelError names what has no PMML."""
    shown = (_events(model, None, n=20 * N_ROWS) if events is None else events).limit(N_ROWS).localCheckpoint()
    with _classes(model.spark) as loader:
        return _build(model, shown, loader)


def compared(model: SparkModel, content: bytes, events: DataFrame) -> compare.Agreement:
    """How the answers of PMML4S to `events` differ from Spark's, prediction and probability."""
    scorer = open_pmml(Package(f"{model.uri} as PMML", {"model.pmml": content}, is_folder=False))
    said = model.transform(events).toArrow()
    kinds = kinds_of(model.inputs())
    theirs = scorer.score(columns.from_arrow(said, kinds))
    return compare.compare(_scores(said), theirs, classes=model.kind != "regression")


def _scores(said: pa.Table) -> Scores:
    """Spark's answers; each row has one."""
    prediction = np.array(said.column("prediction").to_numpy(), dtype=np.float64)
    chances = said.column("probability").to_pylist()
    given = bool(chances) and chances[0] is not None
    return Scores(prediction, np.array(chances, dtype=np.float64) if given else None, [None] * len(prediction))


def _events(model: SparkModel, given: pa.Table | None, *, n: int = COMPARED) -> DataFrame:
    """Rows without nulls that the model can score, with the types of its inputs. ModelError when there are none."""
    kinds, types = kinds_of(model.inputs()), known_types(model)
    odd = [name for name, kind in kinds.items() if kind == "vector"]
    if odd:
        raise ModelError(f"{model.uri}: the input {odd[0]!r} is a vector, which PMML does not have; put a VectorAssembler before it")
    fields = [
        StructField(column.name, StringType() if isinstance(column.dataType, NullType) else column.dataType)
        for column in model.inputs().fields
    ]
    if given is not None:
        table = model.spark.createDataFrame(given)
    else:
        made = rows.generate(n, kinds, labels=known_labels(model), types=types)
        arrays = {field.name: _array(made[field.name], text=not isinstance(field.dataType, DoubleType)) for field in fields}
        table = model.spark.createDataFrame(pyarrow.table(arrays))
    cast = [
        F.col(f"`{field.name}`").cast(types.get(field.name.lower(), field.dataType.simpleString())).alias(field.name) for field in fields
    ]
    names = [f"`{field.name}`" for field in fields]
    table = table.select(*cast).dropna().localCheckpoint()
    scored = model.transform(table).where("error IS NULL").select(*names).localCheckpoint()
    if scored.isEmpty():
        raise ModelError(f"{model.uri}: Spark can score none of the rows, so that nothing can be compared; give rows with --data")
    return scored


def _array(values: NDArray[Any], *, text: bool) -> pa.Array:
    """The column for Spark, NaN as null."""
    return pyarrow.array(values, pyarrow.string()) if text else pyarrow.array(values, pyarrow.float64(), from_pandas=True)


@contextmanager
def _classes(spark: SparkSession) -> Iterator[Any]:
    """A class loader that asks JPMML's jars first: they and Spark's own are kept apart, whatever either brings."""
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
    # A supervised model names its label; JPMML wants that column in the schema and in the rows for `verify`. Its value
    # is never read, so a dummy does for an event, which has none. A class is an integer: of a double the document's
    # labels and the names of its probabilities are spelled differently, and engines do not find the ones by the others.
    if label and label not in events.columns:
        schema = events.withColumn(str(label), F.lit(0 if model.kind == "classification" else 0.0))
    spark: Any = model.spark
    arguments = spark.sparkContext._gateway.new_array(spark._jvm.java.lang.Object, 2)
    arguments[0], arguments[1] = schema._jdf.schema(), pipeline._to_java()
    try:
        constructors = loader.loadClass("org.jpmml.sparkml.PMMLBuilder").getConstructors()
        made = next(c for c in constructors if c.toString().endswith("PipelineModel)")).newInstance(arguments)
        # JPMML lets the pipeline score the rows and writes its answers beside them.
        made.verify(schema._jdf, _PRECISION, _PRECISION)
        return bytes(made.buildByteArray())
    except Py4JJavaError as refused:
        raise ModelError(f"{model.uri}: cannot be written as PMML: {_why(refused)}; its stages: "
                         f"{', '.join(str(stage) for stage, _ in model.steps)}; use --to onnx") from refused  # fmt: skip


def _why(refused: Py4JJavaError) -> str:
    inner = refused.java_exception.getCause()
    return cause(refused) if inner is None or not inner.getMessage() else str(inner.getMessage()).splitlines()[0]
