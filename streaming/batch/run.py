"""Batch scoring: files or a range of the events topic in, one folder out, with the decode, the model and the records of the stream.

The work is cut into chunks. Each chunk is written whole, beside the target; when all are there, one rename puts the
result in place, and a manifest that names its files comes last. A run that was killed goes on with the chunks that are
missing. Where a rename is one step (local disks, HDFS) a reader never sees half a result; on object stores it is a copy
of one file after the other, and the result is whole when the manifest is there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, cast
from uuid import uuid4

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming import adapters
from streaming.batch import inputs
from streaming.batch.inputs import BatchInput, Chunk
from streaming.config.load import Config
from streaming.errors import ConfigError, StateError
from streaming.lanes.score import judged
from streaming.models.base import Model
from streaming.models.columns import mismatches
from streaming.models.manifest import at
from streaming.records import predictions, tables
from streaming.records.schema import META, PROBLEM, event_columns, event_schema
from streaming.runtime.hadoop import HadoopFolder

OutputFormat = Literal["parquet", "json", "delta"]

#: Where a run keeps its chunks until all are there.
_PARTIAL: Final = ".partial"
_PLAN: Final = "_plan.json"
#: Comes last: the counts, and every data file of the result with its size.
MANIFEST: Final = "_manifest.json"
_CHUNK: Final = "chunk"
#: Rows go to one of two folders; writing both at once saves a second pass, and a sort.
_OUTCOME: Final = "outcome"


@dataclass(frozen=True)
class BatchReport:
    """What became of the rows. `resumed`: chunks that an earlier, unfinished run had written."""

    rows: int
    predicted: int
    rejected: int
    chunks: int
    resumed: int


def score(frame: DataFrame, config: Config, schema: StructType, model: Model) -> DataFrame:
    """Decoded rows as rows to write, one for each: the fields of a prediction, `rejected` and `outcome`.

    `outcome` is predicted or rejected. `rejected` is null on a predicted row, else STRUCT<key, value, reason, error>
    with the row as it came; then the fields of the prediction are null, but for the event's own.
    """
    e, problem = F.col(META), F.col(PROBLEM)
    good = problem.isNull()
    why = F.struct(
        _raw(frame, schema, "key").alias("key"), _raw(frame, schema, "value").alias("value"), problem["reason"], problem["error"]
    )
    return judged(model.transform(frame)).select(
        predictions.event_id(e).alias("event_id"),
        e["key"].alias("key"),
        e["event_time"].alias("event_time"),
        F.lit(config.model.name).alias("model"),
        F.lit(config.model.version).alias("model_version"),
        F.when(good, F.col("prediction")).alias("prediction"),
        F.when(good, F.col("probability")).alias("probability"),
        F.when(~good, why).alias("rejected"),
        F.when(good, "predicted").otherwise("rejected").alias(_OUTCOME),
    )


def _raw(frame: DataFrame, schema: StructType, name: str) -> Column:
    """The key or the value as it came, as text: bytes of a record, or the columns of a table."""
    if tables.ORIGINAL not in frame.columns:
        return F.col(f"{META}.raw_{name}").cast("string")
    return tables.value(schema, frame.schema[tables.ORIGINAL].dataType) if name == "value" else F.lit(None).cast("string")


def run(
    config: Config,
    source: BatchInput,
    output: str,
    spark: SparkSession,
    *,
    output_format: OutputFormat = "parquet",
    overwrite: bool = False,
) -> BatchReport:
    """Score all of `source` into the folder `output`; returns when it is complete there.

    ConfigError when the input does not fit, or `output` is taken;
    StateError when an unfinished run of another input stands in the way.
    """
    schema = event_schema(spark, config.events)
    model = cast(Model, adapters.model_of(config.model.format).load(config.model, spark))
    wrong = mismatches(model.inputs(), event_columns(schema, config.events))
    if wrong:
        raise ConfigError(f"events.schema does not fit the model: {'; '.join(wrong)}")
    asked = _asked(config, source, model, output_format)
    partial, target = HadoopFolder(output.rstrip("/") + _PARTIAL, spark), HadoopFolder(output.rstrip("/"), spark)
    step = _next_step(partial, target, asked, overwrite=overwrite)
    if step == "seal":
        return _seal(target, resumed=None)
    chunks = _plan(partial, asked, config, source, anew=step == "anew")
    # Both outcomes are written in one pass with both files open; without this Spark would sort every row first.
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "2")
    resumed = 0
    for i, chunk in enumerate(chunks):
        name = f"_chunk-{i:05d}.json"
        if partial.read(name) is not None:
            resumed += 1
            continue
        rows = score(inputs.decoded(chunk, source, config, schema, spark), config, schema, model)
        partial.replace(name, json.dumps(_write(rows, i, partial.uri, output_format)).encode())
    _move(spark, partial.uri, output)
    return _seal(target, resumed=resumed)


@contextmanager
def watched(spark: SparkSession, show: Callable[[int, int], None]) -> Iterator[None]:
    """Tell `show`, twice a second, how many of Spark's tasks are done and how many are known, while the block runs."""
    group, done = f"batch-{uuid4().hex}", threading.Event()
    spark.sparkContext.setJobGroup(group, "batch scoring")
    tracker = spark.sparkContext.statusTracker()

    def look() -> None:
        while not done.wait(0.5):
            jobs = [job for number in tracker.getJobIdsForGroup(group) if (job := tracker.getJobInfo(number)) is not None]
            stages = [stage for job in jobs for number in job.stageIds if (stage := tracker.getStageInfo(number)) is not None]
            show(sum(stage.numCompletedTasks for stage in stages), sum(stage.numTasks for stage in stages))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _write(rows: DataFrame, i: int, uri: str, output_format: OutputFormat) -> dict[str, int]:
    """Write chunk `i`, in place of what an interrupted attempt left; returns how many rows had which outcome."""
    seen = Observation()
    outcome = F.col(_OUTCOME)
    names = ("predicted", "rejected")
    writer = rows.observe(seen, *(F.count_if(outcome == name).alias(name) for name in names))
    if output_format == "delta":
        table = writer.withColumn(_CHUNK, F.lit(i)).write.partitionBy(_CHUNK, _OUTCOME).format("delta").mode("overwrite")
        table.option("replaceWhere", f"{_CHUNK} = {i}").save(uri)
    else:
        writer.write.partitionBy(_OUTCOME).mode("overwrite").format(output_format).save(f"{uri}/{_CHUNK}={i}")
    return {name: int(seen.get[name]) for name in names}


def _asked(config: Config, source: BatchInput, model: Model, output_format: str) -> dict[str, object]:
    """All that decides what the chunks of a run hold: chunks of two runs may only be mixed when it is the same."""
    decoding = config.events.model_dump(mode="json", include={"ddl", "key", "time", "columns", "max_future"})
    files = getattr(model, "fingerprint", None)
    named = {"name": config.model.name, "version": config.model.version, "uri": config.model.uri, "files": files}
    return {"source": source.described(), "model": named, "decoding": decoding, "format": output_format}


def _plan(partial: HadoopFolder, asked: dict[str, object], config: Config, source: BatchInput, *, anew: bool) -> list[Chunk]:
    """The chunks of this run: those of the unfinished run that is there, or new ones."""
    written = partial.read(_PLAN)
    if written is not None and not anew:
        plan = json.loads(written)
        if plan["asked"] != asked:
            unlike = sorted(name for name in asked if plan["asked"].get(name) != asked[name])
            raise StateError(
                f"{partial.uri}: an unfinished run of another {' and '.join(unlike)}; finish that one as it was asked for, or start anew with --overwrite"
            )
        return [Chunk(**chunk) for chunk in plan["chunks"]]
    _remove(partial.spark, partial.uri)
    chunks = inputs.chunks(source, config, partial.spark)
    partial.replace(_PLAN, json.dumps({"asked": asked, "chunks": [vars(chunk) for chunk in chunks]}).encode())
    return chunks


def _planned(folder: HadoopFolder) -> object:
    """What the run was asked for that made this folder; None when none did."""
    plan = folder.read(_PLAN)
    return None if plan is None else json.loads(plan).get("asked")


def _next_step(
    partial: HadoopFolder, target: HadoopFolder, asked: dict[str, object], *, overwrite: bool
) -> Literal["go on", "anew", "seal"]:
    """How to begin, by what stands at the target: make the chunks that are missing, make all of them, or only write the manifest. ConfigError when it is taken."""
    if overwrite:
        return "anew"
    if not _exists(target.spark, target.uri):
        return "go on"
    if target.read(MANIFEST) is None:
        if _planned(partial) == asked:
            return "anew"  # interrupted while file after file was put in place: some are neither here nor there
        if _planned(target) == asked:
            return "seal"  # interrupted when all of them were
    raise ConfigError(f"{target.uri}: is there already; choose another --output, or replace it with --overwrite")


def _seal(target: HadoopFolder, *, resumed: int | None) -> BatchReport:
    """Write the manifest of a result that is in place. `resumed` None: all of its chunks are from an earlier run."""
    counts = [json.loads(target.read(name) or b"{}") for name in target.names() if name.startswith("_chunk-")]
    predicted, rejected = (sum(count[name] for count in counts) for name in ("predicted", "rejected"))
    report = BatchReport(predicted + rejected, predicted, rejected, len(counts), len(counts) if resumed is None else resumed)
    target.replace(MANIFEST, json.dumps({**vars(report), "files": _files(target.spark, target.uri)}, indent=1).encode())
    return report


def _files(spark: SparkSession, uri: str) -> dict[str, int]:
    """The data files below a folder, counted from there, with their sizes in bytes."""
    fs, root = at(spark, uri)
    listed, lengths = fs.listFiles(root, True), {}
    prefix = str(fs.makeQualified(root).toUri().getPath()).rstrip("/") + "/"
    while listed.hasNext():
        status = listed.next()
        name = str(status.getPath().toUri().getPath()).removeprefix(prefix)
        if not any(part.startswith(("_", ".")) for part in name.split("/")):
            lengths[name] = int(status.getLen())
    return dict(sorted(lengths.items()))


def _exists(spark: SparkSession, uri: str) -> bool:
    fs, path = at(spark, uri)
    return bool(fs.exists(path))


def _remove(spark: SparkSession, uri: str) -> None:
    fs, path = at(spark, uri)
    fs.delete(path, True)


def _move(spark: SparkSession, uri: str, target: str) -> None:
    _remove(spark, target)
    fs, path = at(spark, uri)
    if not fs.rename(path, at(spark, target)[1]):
        raise ConfigError(
            f"{target}: cannot be put in place; the complete result is at {uri}; check permissions and that the folder above is there"
        )
