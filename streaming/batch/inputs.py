"""What a batch reads: files of a format that Spark knows, or a bounded range of the events topic, cut into chunks.

A chunk is named by what it holds (files, a table version, offsets), so that a run that was interrupted reads the same
rows again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from streaming.config.load import Config
from streaming.errors import ConfigError
from streaming.kafka import admin, read
from streaming.models.manifest import at
from streaming.records import events, tables
from streaming.records.schema import CORRUPT

Format = Literal["csv", "json", "parquet", "delta", "kafka"]

#: A chunk holds about this much: enough to keep a cluster busy, little enough to be done again.
CHUNK_BYTES: Final = 2 << 30
CHUNK_RECORDS: Final = 5_000_000

#: Rows are numbered in each task from here on; the bits above are the task's number.
_ROW_BITS: Final = (1 << 33) - 1


@dataclass(frozen=True)
class BatchInput:
    """What to read. `start` and `end` bound a range of the topic: earliest, latest or an ISO 8601 time."""

    format: Format
    uri: str = ""
    start: str = "earliest"
    end: str = "latest"

    def described(self) -> dict[str, str]:
        """The fields that say which input it is."""
        bounds = {"start": self.start, "end": self.end} if self.format == "kafka" else {}
        return {"format": self.format, "uri": self.uri, **bounds}


@dataclass(frozen=True)
class Chunk:
    """A piece of the work: files, or the version of a Delta table, or offsets as `{topic: {partition: offset}}`."""

    files: list[str] = field(default_factory=list)
    version: int | None = None
    start: dict[str, dict[str, int]] = field(default_factory=dict)
    end: dict[str, dict[str, int]] = field(default_factory=dict)


def chunks(source: BatchInput, config: Config, spark: SparkSession) -> list[Chunk]:
    """Cut the input into chunks. ConfigError when there is nothing to read, or a bound of the range cannot be understood."""
    if source.format == "kafka":
        return _ranges(*_bounds(source, config, spark))
    if source.format == "delta":
        return [Chunk(version=_version(source.uri, spark))]
    return _files(_sizes(source.uri, spark))


def decoded(chunk: Chunk, source: BatchInput, config: Config, schema: StructType, spark: SparkSession) -> DataFrame:
    """The rows of a chunk as decoded events, see :func:`streaming.records.events.decode`."""
    if source.format == "kafka":
        return events.decode(_records(chunk, config, spark), config.events, schema)
    root = _root(source.uri, spark)
    if source.format == "json":
        return events.decode(_lines(spark.read.text(chunk.files), root), config.events, schema)
    if source.format == "delta":
        rows = spark.read.option("versionAsOf", chunk.version or 0).format("delta").load(source.uri)
    else:
        rows = _folders_as_columns(chunk.files, source.format, root, spark)
    return tables.decode(rows, config.events, schema, where=_place(source.format, root))


def _folders_as_columns(files: list[str], of: Format, root: str, spark: SparkSession) -> DataFrame:
    """The rows of data files; a folder named `day=2026-01-31` below `root` is a column of all its rows. What its type is, the event schema says."""
    spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
    try:
        return _csv(files, root, spark) if of == "csv" else spark.read.option("basePath", root).parquet(*files)
    except AnalysisException as unlike:
        first = str(unlike).strip().splitlines()[0]
        raise ConfigError(
            f"--input: {root}: its files and folders do not make one table: {first}; give one of its folders alone"
        ) from unlike


def _root(uri: str, spark: SparkSession) -> str:
    """The folder that the names of the files count from: the input itself, what stands before the first glob, or above the one file."""
    fs, path = at(spark, uri)
    parts = str(fs.makeQualified(path).toUri().toString()).split("/")
    globs = [i for i, part in enumerate(parts) if set(part) & set("*?[{")]
    if globs:
        return "/".join(parts[: globs[0]])
    return "/".join(parts) if fs.getFileStatus(path).isDirectory() else "/".join(parts[:-1])


def _place(of: Format, root: str) -> dict[str, Column]:
    """Where a row of a file stood: the file below `root`, the byte at which Spark's split began, the row's number from there, the file's time."""
    split = F.col("_metadata.file_block_start")
    # Parquet knows the number of a row; of lines only the order in their split is known.
    known = of == "parquet"
    row = F.col("_metadata.row_index") if known else F.monotonically_increasing_id().bitwiseAND(F.lit(_ROW_BITS))
    return {
        "topic": _below(root, F.col("_metadata.file_path")),
        "partition": F.lit(0).cast("bigint") if known else split,
        "offset": row,
        "timestamp": F.col("_metadata.file_modification_time"),
    }


def _below(root: str, path: Column) -> Column:
    """The path of a file counted from `root`: its name alone, unless it is in a folder of its own. file:/x and file:///x are the same."""
    one_slash = F.regexp_replace(path, "^([a-zA-Z][a-zA-Z0-9+.-]*):/+", "$1:/")
    prefix = re.sub("^([a-zA-Z][a-zA-Z0-9+.-]*):/+", r"\1:/", root).rstrip("/") + "/"
    return F.when(one_slash.startswith(prefix), F.substring(one_slash, len(prefix) + 1, 1 << 20)).otherwise(one_slash)


def _lines(lines: DataFrame, root: str) -> DataFrame:
    """Lines of text as records of a topic; blank lines are no records."""
    value = F.col("value").cast("binary")
    place = [column.alias(name) for name, column in _place("json", root).items()]
    return lines.select(F.lit(None).cast("binary").alias("key"), value.alias("value"), *place).where(F.length("value") > 0)


def _csv(files: list[str], root: str, spark: SparkSession) -> DataFrame:
    """Every column as text: what a value is, the event schema says. A line that does not fit the header keeps its text."""
    names = spark.read.option("header", True).csv(files[0]).columns
    schema = StructType([StructField(name, StringType()) for name in (*names, CORRUPT)])
    options = {"header": "true", "mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "enforceSchema": "false"}
    return spark.read.options(**options).option("basePath", root).schema(schema).csv(files)


def _records(chunk: Chunk, config: Config, spark: SparkSession) -> DataFrame:
    (topic,) = chunk.start
    start, end = ({int(p): offset for p, offset in bound[topic].items()} for bound in (chunk.start, chunk.end))
    return read.between(spark, config.kafka, topic, start, end)


def _sizes(uri: str, spark: SparkSession) -> list[tuple[str, int]]:
    """The data files at a path, a folder or a glob, in the order of their names, with their sizes."""
    try:
        listed = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(uri).select("path", "length")
        files = sorted((str(row["path"]), int(row["length"])) for row in listed.collect())
    except AnalysisException as missing:
        raise ConfigError(f"--input: {uri}: no such file or folder; check the path") from missing
    if not files:
        raise ConfigError(f"--input: {uri}: no files there; expected data files (names that begin with _ or . are passed over)")
    return files


def _files(sizes: list[tuple[str, int]]) -> list[Chunk]:
    """Files in order, together until a chunk is full."""
    made: list[Chunk] = []
    room = 0
    for path, size in sizes:
        if room < size or not made:
            made.append(Chunk(files=[]))
            room = CHUNK_BYTES
        made[-1].files.append(path)
        room -= size
    return made


def _version(uri: str, spark: SparkSession) -> int:
    from delta.tables import DeltaTable

    try:
        newest = DeltaTable.forPath(spark, uri).history(1).first()
    except AnalysisException as missing:
        raise ConfigError(f"--input: {uri}: not a Delta table; check the path, or name the format with --format") from missing
    return int(newest["version"]) if newest is not None else 0


def _bounds(source: BatchInput, config: Config, spark: SparkSession) -> tuple[str, dict[int, int], dict[int, int]]:
    """The topic, and its first and last offsets (not included) in the range, by partition."""
    topic = config.events.topic
    start, end = (
        admin.offsets(spark, config.kafka, topic, _bound(option, text)) for option, text in (("--from", source.start), ("--to", source.end))
    )
    if not start:
        raise ConfigError(f"Kafka at {config.kafka.bootstrap_servers}: no topic {topic}")
    return topic, {p: min(first, end[p]) for p, first in start.items()}, end


def _bound(option: str, text: str) -> str | int:
    """earliest, latest, or a time as milliseconds since 1970."""
    if text in ("earliest", "latest"):
        return text
    try:
        when = datetime.fromisoformat(text)
    except ValueError as unknown:
        raise ConfigError(f"{option}: got {text!r}; expected earliest, latest or a time such as 2026-01-31T12:00:00Z") from unknown
    return int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _ranges(topic: str, start: dict[int, int], end: dict[int, int]) -> list[Chunk]:
    """Equal parts of every partition, so many that none has too many records."""
    total = sum(end[p] - start[p] for p in start)
    parts = max(1, -(-total // CHUNK_RECORDS))

    def cut(i: int) -> dict[str, dict[str, int]]:
        return {topic: {str(p): first + (end[p] - first) * i // parts for p, first in start.items()}}

    return [Chunk(start=cut(i), end=cut(i + 1)) for i in range(parts)]
