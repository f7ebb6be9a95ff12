"""The golden data set: events that every form has to answer as the saved pipeline does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, parquet
from pyarrow import json as jsonlines
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import NumericType, StructType

from streaming.config.load import Config
from streaming.convert.spark.pipeline import kinds_of
from streaming.errors import ConfigError
from streaming.models.spark.known import known_labels, known_types
from streaming.models.spark.pipeline import SparkModel
from streaming.records.schema import event_columns, event_schema, field_column
from streaming.records.schema import field as field_at
from streaming.scorers import columns as columns_of
from streaming.scorers import rows
from streaming.scorers.base import ColumnKind, Columns

#: The format of a data file by its ending, as `streaming batch` calls it.
ENDINGS: Final = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json"}
#: Spark cuts files above this into several pieces, and then nobody knows the number of a row.
LARGEST: Final = 100 << 20
_TIME: Final = "2026-01-01T00:00:00Z"
#: The column with the number of a row.
ROW: Final = "__row"

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Golden:
    """n events, numbered from 0, of which every form gets the same."""

    events: Sequence[Event] = field(repr=False)
    #: The number of each event in the file it came from.
    places: Sequence[int] = field(repr=False)
    #: The entity's key of each event, as text.
    keys: Sequence[str] = field(repr=False)
    #: Rows of the file without a key or a time, or with an infinite number, which JSON cannot say.
    left_out: int
    #: The same events as a Parquet file of one row group per read.
    path: Path
    #: Where they came from, and its format: what a batch reads.
    source: Path
    format: str
    #: The event schema; what the model sees of it; and what of that the model reads.
    schema: StructType
    kinds: Mapping[str, ColumnKind]
    columns: Columns = field(repr=False)

    def __len__(self) -> int:
        return len(self.events)

    def lines(self) -> list[str]:
        """The events as JSON, one object each."""
        return [json.dumps(event, default=_json, ensure_ascii=False, allow_nan=False) for event in self.events]

    def inputs(self) -> list[dict[str, Any]]:
        """What the model reads of each event as JSON values; null for null."""
        rows = {name: [_plain(value) for value in values.tolist()] for name, values in self.columns.items()}
        return [{name: values[i] for name, values in rows.items()} for i in range(len(self))]

    def complete(self) -> list[int]:
        """The numbers of the events in which nothing that the model reads is null."""
        return [i for i, row in enumerate(self.inputs()) if all(value is not None for value in row.values())]


def make(config: Config, model: SparkModel, folder: Path, *, data: Path | None, n: int | None) -> Golden:
    """The golden set of `data`, its first `n` rows; without data `n` generated rows. Writes files into `folder`.

    ConfigError when the file cannot be read, does not fit the event schema or has no usable row.
    """
    schema = event_schema(model.spark, config.events)
    arrow = to_arrow_schema(schema)
    made = generated(config, model, schema, n or 1000) if data is None else _read(data, arrow)[:n]
    kept = [(i, event) for i, each in enumerate(made) if _usable(event := _finite(each), config)]
    if not kept:
        raise ConfigError(f"{data}: no row has {config.events.key} and {config.events.time or 'a time'}; expected rows of events.schema")
    events = [event for _, event in kept]
    path = folder / "golden.parquet"
    parquet.write_table(pa.Table.from_pylist(events, schema=arrow), path, row_group_size=len(events))
    kinds = kinds_of(model.inputs())
    read = frame(model.spark, path, config, schema).select(ROW, *(f"`{name}`" for name in kinds)).toArrow().sort_by(ROW)
    return Golden(
        events=events,
        places=[i for i, _ in kept],
        keys=[str(_at(event, config.events.key)) for event in events],
        left_out=len(made) - len(kept),
        path=path,
        source=data or path,
        format="parquet" if data is None else ENDINGS[data.suffix],
        schema=schema,
        kinds=kinds,
        columns=columns_of.from_arrow(read, kinds),
    )


def frame(spark: SparkSession, path: Path, config: Config, schema: StructType) -> DataFrame:
    """The events of a Parquet file as the model sees them on the stream, with their numbers in `__row`."""
    fields = [f"`{name}`" for name in schema.fieldNames()]
    lifted = [field_column(schema, where).alias(name) for name, where in config.events.columns.items()]
    return spark.read.schema(schema).parquet(str(path)).select(F.col("_metadata.row_index").alias(ROW), *fields, *lifted)


def generated(config: Config, model: SparkModel, schema: StructType, n: int) -> list[dict[str, Any]]:
    """n events: what the model knows, what it has never seen, nulls and odd numbers. The same at every call."""
    seen = {f.name.lower(): f.dataType for f in event_columns(schema, config.events)}
    kinds: dict[str, ColumnKind] = dict(kinds_of(model.inputs()))
    vectors = [name for name, kind in kinds.items() if kind == "vector"]
    if vectors:
        raise ConfigError(f"{model.uri}: the input {vectors[0]!r} is a vector of unknown size; give events with --data")
    numeric = {name for name, kind in kinds.items() if isinstance(seen[name.lower()], NumericType)}
    types = known_types(model) | {name: declared.simpleString() for name, declared in seen.items()}
    asked: dict[str, ColumnKind] = {name: "number" if name in numeric else kind for name, kind in kinds.items()}
    made = {name: values.tolist() for name, values in rows.generate(n, asked, labels=known_labels(model), types=types).items()}
    paths = {name.lower(): name for name in schema.fieldNames()} | {name.lower(): path for name, path in config.events.columns.items()}
    whole = {name for name in numeric if types[name.lower()] in {"tinyint", "smallint", "int", "bigint"}}
    events: list[dict[str, Any]] = []
    for i in range(n):
        event: dict[str, Any] = {}
        for name, values in made.items():
            value = _plain(values[i])
            _put(event, paths[name.lower()], int(value) if value is not None and name in whole else value)
        _put(event, config.events.key, _of_type(field_at(schema, config.events.key), i, f"golden-{i}"))
        if config.events.time is not None:
            _put(event, config.events.time, _of_type(field_at(schema, config.events.time), 1_767_225_600, _TIME))
        events.append(event)
    return events


def _of_type(declared: Any, number: int, words: str) -> Any:
    return number if isinstance(declared.dataType, NumericType) else words


def _read(data: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    if data.suffix not in ENDINGS:
        raise ConfigError(f"--data: {data}: expected a name that ends in {', '.join(ENDINGS)}")
    try:
        if data.stat().st_size > LARGEST:
            raise ConfigError(f"--data: {data}: above {LARGEST >> 20} MB; expected a golden set of at most that, cut it")
        if data.suffix == ".parquet":
            table = parquet.read_table(data)
        elif data.suffix == ".csv":
            types = {each.name: each.type for each in schema}
            table = csv.read_csv(data, convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]))
        else:
            options = jsonlines.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
            table = jsonlines.read_json(data, parse_options=options)
        here = [name for name in schema.names if name in table.column_names]
        fitted = table.select(here).cast(pa.schema([schema.field(name) for name in here]))
    except (OSError, pa.ArrowException) as broken:
        raise ConfigError(f"--data: {data}: does not fit events.schema: {(str(broken).splitlines() or [''])[0]}") from broken
    rows: list[dict[str, Any]] = fitted.to_pylist()
    return rows


def _usable(event: Event, config: Config) -> bool:
    named = [config.events.key, *([config.events.time] if config.events.time else [])]
    return all(_at(event, path) not in (None, "") for path in named) and not _infinite(event)


def _at(event: Event, path: str) -> Any:
    value: Any = event
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _put(event: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for part in above:
        event = event.setdefault(part, {})
    event[last] = value


def _finite(value: Any) -> Any:
    """The value with null in place of every NaN: JSON has no word for it."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _infinite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_infinite, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isinf(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return None if all(math.isnan(x) for x in value) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else float(value) if hasattr(value, "as_tuple") else str(value)
