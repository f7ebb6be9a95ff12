"""The training table: read, checked against the config, hashed, split. The order and the number of its files change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType, StringType, StructField, StructType

from streaming.config.sections import Train
from streaming.errors import ConfigError
from streaming.training.algorithms import ALGORITHMS

#: Names that a model adds to an event: a feature of that name would make the saved pipeline refuse every event.
_TAKEN: Final = frozenset({"features", "prediction", "probability", "rawPrediction", "error", "_label", "_hash", "_raw_label"})


@dataclass(frozen=True)
class Table:
    """The rows that can be learned from."""

    #: The features under their own names and types, `_raw_label` (absent for clustering), and `_hash` BIGINT: of the row's content.
    rows: DataFrame
    #: What is held in memory for `rows`, to be unpersisted at the end.
    cached: DataFrame
    #: The columns an event must have, as the table has them: what the saved pipeline reads.
    features: StructType
    rows_read: int
    rows_without_label: int
    #: 16 hex digits: the sum modulo 2^64 of the rows' hashes, and so the same in every order of rows and files.
    sha: str
    rows_used: int


def read(spark: SparkSession, section: Train, *, source: str) -> Table:
    """Read and check the training table. ConfigError, naming `source`, when it cannot be read or does not fit the config.

    Rows without a label are dropped and counted. In a CSV a numeric column may have blanks: they are missing values.
    """
    try:
        return _read(spark, section, source)
    except (PySparkException, Py4JJavaError) as broken:
        raise ConfigError(f"{source}: train.data: {section.data}: cannot be read as {section.format}: {_why(broken)}") from broken


def _read(spark: SparkSession, section: Train, source: str) -> Table:
    raw = _open(spark, section, source)
    _check_columns(section, raw.columns, source)
    label = [] if ALGORITHMS[section.algorithm].kind == "clustering" else [section.label]
    raw = raw.select(*(F.col(f"`{name}`") for name in [*section.categorical, *section.numeric, *label]))
    if section.format == "csv":
        raw = _parse_numbers(raw, section, source)
    features = _features(raw.schema, section, source)
    named = raw.select(
        *(_as_feature(raw.schema[f.name].dataType, f) for f in features), *(F.col(f"`{x}`").alias("_raw_label") for x in label)
    )
    hashed = named.withColumn("_hash", _row_hash(named.schema)).cache()
    good = F.lit(True) if not label else _has_label(hashed.schema["_raw_label"].dataType)
    used = hashed.filter(good)
    counts = _first_pass(hashed, good, section)
    if counts["used"] == 0:
        raise ConfigError(
            f"{source}: train.data: {section.data}: no usable rows ({counts['read']} rows, {counts['read']} without {section.label})"
        )
    for name in section.numeric:
        if counts[f"n_{name}"] == 0:
            raise ConfigError(f"{source}: train.numeric: {name} has no value in any row of {section.data}; take it out")
    sha = f"{int(counts['sum'] or 0) % (1 << 64):016x}"
    return Table(used, hashed, features, counts["read"], counts["read"] - counts["used"], sha, counts["used"])


def _open(spark: SparkSession, section: Train, source: str) -> DataFrame:
    reader = spark.read
    if section.format == "csv":
        # All columns as text: Spark's own guess makes a whole column text because of one blank.
        reader = reader.options(header="true", inferSchema="false", escape='"', enforceSchema="false")
    table = reader.format(section.format).load(section.data)
    if not table.columns:
        raise ConfigError(f"{source}: train.data: {section.data}: the {section.format} file is empty; expected columns and rows")
    return table


def _why(broken: Exception) -> str:
    if isinstance(broken, PySparkException):
        condition = broken.getCondition() or ""
        if condition == "PATH_NOT_FOUND":
            return "no such file or folder"
        if condition == "DATA_SOURCE_NOT_FOUND":
            return "this session has no Delta jars; put store.kind delta in the config, or start it with the delta-spark package"
    return next((line.strip() for line in str(broken).splitlines() if line.strip()), type(broken).__name__)


def _check_columns(section: Train, columns: Sequence[str], source: str) -> None:
    if not section.categorical and not section.numeric:
        raise ConfigError(
            f"{source}: train: no features; name columns under train.categorical or train.numeric; {section.data} has {', '.join(columns)}"
        )
    wanted = [("categorical", name) for name in section.categorical] + [("numeric", name) for name in section.numeric]
    label = [] if ALGORITHMS[section.algorithm].kind == "clustering" else [("label", section.label)]
    seen: dict[str, str] = {}
    for where, name in wanted + label:
        if name not in columns:
            raise ConfigError(f"{source}: train.{where}: {section.data} has no column {name!r}; its columns: {', '.join(columns)}")
        if name in seen:
            raise ConfigError(f"{source}: train.{where}: {name} stands under train.{seen[name]} too; a column has one role")
        if where != "label" and (name in _TAKEN or "." in name or "`" in name):
            raise ConfigError(
                f"{source}: train.{where}: {name!r} cannot be a feature's name: it has a dot, or is a column that models add; rename it"
            )
        seen[name] = where


def _parse_numbers(raw: DataFrame, section: Train, source: str) -> DataFrame:
    """A CSV's numeric columns as DOUBLE. Text that is no number is refused: training on it as "missing" would hide a mistake."""
    wrong = {name: F.sum((_blank_to_null(name).isNotNull() & _number(name).isNull()).cast("int")).alias(name) for name in section.numeric}
    if wrong:
        counts = raw.agg(*wrong.values()).first()
        for name in section.numeric:
            if counts is not None and counts[name]:
                raise ConfigError(
                    f"{source}: train.numeric: {name}: {counts[name]} rows of {section.data} are no number; list it under train.categorical?"
                )
    return raw.withColumns({name: _number(name) for name in section.numeric})


def _blank_to_null(name: str) -> Column:
    return F.nullif(F.trim(F.col(f"`{name}`")), F.lit(""))


def _number(name: str) -> Column:
    return _blank_to_null(name).try_cast("double")


def _features(schema: StructType, section: Train, source: str) -> StructType:
    fields = []
    for name in section.categorical:
        declared = schema[name].dataType
        if not isinstance(declared, StringType | NumericType | BooleanType):
            raise ConfigError(
                f"{source}: train.categorical: {name} is {declared.simpleString()}; expected text, a whole number or a boolean"
            )
        # A boolean is learned as the text "true" or "false", which is also how an event field declared STRING reads JSON's true.
        fields.append(StructField(name, StringType() if isinstance(declared, BooleanType | StringType) else declared))
    for name in section.numeric:
        declared = schema[name].dataType
        if not isinstance(declared, NumericType):
            raise ConfigError(
                f"{source}: train.numeric: {name} is {declared.simpleString()}; expected a number; cast it, or list it under train.categorical"
            )
        fields.append(StructField(name, declared))
    return StructType(fields)


def _as_feature(declared: DataType, field: StructField) -> Column:
    return F.col(f"`{field.name}`").cast(field.dataType).alias(field.name) if declared != field.dataType else F.col(f"`{field.name}`")


def _row_hash(schema: StructType) -> Column:
    """xxHash64 of the row's values in the order of the column names. Numbers count as doubles, whatever their type in the file;
    whether a value is null counts too, since xxHash64 skips nulls."""
    parts: list[Column] = []
    for field in sorted(schema.fields, key=lambda f: f.name):
        value = F.col(f"`{field.name}`")
        value = value.cast("double") if isinstance(field.dataType, NumericType) else value.cast("string")
        parts += [value, value.isNull()]
    return F.xxhash64(*parts)


def _has_label(kind: DataType) -> Column:
    label = F.col("_raw_label")
    if isinstance(kind, StringType):
        return F.trim(label) != ""
    present = label.isNotNull()
    return present & ~F.isnan(label.cast("double")) if isinstance(kind, NumericType) else present


def _first_pass(hashed: DataFrame, good: Column, section: Train) -> dict[str, int]:
    """One pass over the table: how many rows, how many usable, the sum of their hashes, the values of each numeric column."""
    keep = F.coalesce(good, F.lit(False))
    numbers = {name: F.col(f"`{name}`").cast("double") for name in section.numeric}
    values = [F.count(F.when(keep & number.isNotNull() & ~F.isnan(number), 1)).alias(f"n_{name}") for name, number in numbers.items()]
    total = F.sum(F.when(keep, F.col("_hash").cast("decimal(20,0)"))).alias("sum")
    row = hashed.agg(F.count("*").alias("read"), F.count(F.when(keep, 1)).alias("used"), total, *values).first()
    return dict(row.asDict()) if row is not None else {"read": 0, "used": 0}


def is_test(*, fraction: float, seed: int) -> Column:
    """True for the rows held out for testing. A row's side depends on its content and the seed alone, so equal rows stay together."""
    million = 1_000_000
    return F.pmod(F.xxhash64(F.col("_hash"), F.lit(seed)), F.lit(million)) < round(fraction * million)
