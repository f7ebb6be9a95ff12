"""What the MONITOR lane makes of each topic's records: on the executors sums and small rows, on the driver a payload.

Pure functions of frames and tables. An event's features are summed where they are read and never leave the executors; of
an answer and of a label only the figures go to the driver, with hashes in the place of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from streaming.config.load import Config
from streaming.learning import labels
from streaming.monitor import ledger
from streaming.monitor.bins import Column as Cells
from streaming.monitor.statistics import ALL, REJECTED, VERSION, Layout, Statistics, array, merged, of_rows, split
from streaming.monitor.windows import Payload, Watch
from streaming.records import predictions, rejected
from streaming.records.events import decode
from streaming.records.schema import META, PROBLEM, event_columns, field_column

#: What comes to the driver. `kind`: s sums of a window, e an event, p an answer, l a label.
FLAT: Final = (
    "kind STRING, window BIGINT, slice STRING, subject STRING, counts ARRAY<DOUBLE>, at BIGINT, id BIGINT, pair BIGINT, "
    "model INT, prediction DOUBLE, score DOUBLE, y DOUBLE, codes ARRAY<SMALLINT>"
)
_ARROW: Final = pa.schema(
    [
        ("kind", pa.string()), ("window", pa.int64()), ("slice", pa.string()), ("subject", pa.string()), ("counts", pa.list_(pa.float64())),
        ("at", pa.int64()), ("id", pa.int64()), ("pair", pa.int64()), ("model", pa.int32()), ("prediction", pa.float64()),
        ("score", pa.float64()), ("y", pa.float64()), ("codes", pa.list_(pa.int16())),
    ]
)  # fmt: skip

#: Of a million hashes.
_MILLION: Final = 1_000_000
#: A reason is a word of the service; what is none is counted as this.
_OTHER: Final = "other"
_WORD: Final = r"^[a-z][a-z_]{0,39}$"
#: A prediction as this service writes it. Inside a text of JSON no quote stands alone: what this finds is the field.
_PLACE: Final = r'^\{"event_id":"([^"\\]+)"'
#: A version is shown in records and alerts: not longer than this.
_VERSION: Final = 64


@dataclass(frozen=True)
class MonitorInputs:
    """The raw Kafka records the lane reads; `labels` is None when there is no topic of them."""

    events: DataFrame
    predictions: DataFrame
    rejected: DataFrame
    labels: DataFrame | None
    schema: StructType
    label_schema: StructType | None


def rows(inputs: MonitorInputs, config: Config, watch: Watch) -> DataFrame:
    """All that a batch brings, as rows of FLAT."""
    assert config.monitor is not None
    frames = [
        _events(inputs.events, config, inputs.schema, watch),
        _answers(inputs.predictions, config, watch),
        _rejected(inputs.rejected, config, watch),
    ]
    if inputs.labels is not None and inputs.label_schema is not None:
        frames.append(_labels(inputs.labels, config, inputs.label_schema, watch))
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame, allowMissingColumns=True)
    # A task for each partition of each topic would cost more in starting than in counting.
    return whole.coalesce(2)


def _events(records: DataFrame, config: Config, schema: StructType, watch: Watch) -> DataFrame:
    assert config.monitor is not None
    e = F.col(META)
    # Before anything is decoded: what is left out costs nothing.
    place = F.xxhash64(F.concat_ws(":", "topic", "partition", "offset"))
    decoded = decode(records.where(_sampled(place, config.monitor.sample)), config.events, schema).where(F.col(PROBLEM).isNull())
    pair = _pair(e["key"], e["event_time"])
    known = {field.name for field in event_columns(schema, config.events).fields}
    own = [_watched(column, known).alias(column.name) for column in watch.layout.columns]
    field = None if config.labels is None else config.labels.field
    y = F.lit(None).cast("double") if field is None else field_column(schema, field).try_cast("double")
    head = [
        _arrival(e["timestamp"], watch).alias("_at"),
        F.xxhash64(predictions.event_id(e)).alias("_id"),
        pair.alias("_pair"),
        y.alias("_y"),
    ]
    return decoded.select(*head, *own).mapInArrow(_counting(watch, with_labels=field is not None), FLAT)


def _watched(column: Cells, known: set[str]) -> Column:
    """An event's field as the baseline knows it; what it has not is null."""
    if column.name not in known:
        return F.lit(None).cast("string" if column.kind == "category" else "double")
    value = F.col(f"`{column.name}`")
    if column.kind == "other":
        return F.when(value.isNotNull(), F.lit(True))
    return value.cast("string") if column.kind == "category" else value.try_cast("double")


def _counting(watch: Watch, *, with_labels: bool) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    layout, width = watch.layout, watch.window

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: dict[int, Statistics] = {}
        newest: dict[int, int] = {}
        for batch in batches:
            table = pa.Table.from_batches([batch])
            at = np.asarray(table.column("_at").to_numpy(), dtype=np.int64)
            starts = at - at % width
            for start, counted in split(table, starts, lambda rows: of_rows(rows, layout)).items():
                sums[start] = merged([sums.get(start, Statistics()), counted])
                newest[start] = max(newest.get(start, 0), int(at[starts == start].max()))
            if layout.slices or with_labels:
                yield from _event_rows(table, layout, with_labels=with_labels)
        yield from _flat(
            [
                {"kind": "s", "window": start, "slice": slice_, "subject": subject, "counts": vector.tolist(), "at": newest[start]}
                for start, statistics in sums.items()
                for (slice_, subject), vector in statistics.values.items()
            ]
        )

    return task


def _event_rows(table: pa.Table, layout: Layout, *, with_labels: bool) -> Iterator[pa.RecordBatch]:
    n = table.num_rows
    k = len(layout.slices)
    columns = {"at": table.column("_at"), "id": table.column("_id")}
    if k:
        numbers = [layout.column(name).codes(array(table, name)).astype(np.int16) for name in layout.slices]
        flat = pa.array(np.column_stack(numbers).ravel())
        yield _batch("e", n, columns | {"codes": pa.ListArray.from_arrays(pa.array(np.arange(0, k * n + 1, k), pa.int32()), flat)})
    if with_labels:
        said = table.filter(pc.is_finite(table.column("_y")))
        yield _batch("l", said.num_rows, {"at": said.column("_at"), "pair": said.column("_pair"), "y": said.column("_y")})


def _batch(kind: str, n: int, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> pa.RecordBatch:
    made = {name: c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for name, c in columns.items()}
    made["kind"] = pa.array([kind] * n, pa.string())
    return pa.RecordBatch.from_arrays([made.get(f.name, pa.nulls(n, f.type)).cast(f.type) for f in _ARROW], schema=_ARROW)


def _flat(cells: list[dict[str, object]]) -> list[pa.RecordBatch]:
    return pa.Table.from_pylist(cells, schema=_ARROW).to_batches() if cells else []


def _answers(records: DataFrame, config: Config, watch: Watch) -> DataFrame:
    assert config.monitor is not None
    names = [model.name for model in watch.models]
    parsed = predictions.parse(F.col("value"))

    def is_ours(p: Column) -> Column:
        return p["model"].isin(names) & p["prediction"].isNotNull() & p["event_time"].isNotNull() & p["key"].isNotNull()

    sample = config.monitor.sample
    if sample < 1.0:
        # Before anything is parsed, where the event's place can be read off: the service writes it first. The others are parsed and looked at.
        place = F.regexp_extract(F.col("value").cast("string"), _PLACE, 1)
        records = records.where((place == "") | _sampled(F.xxhash64(place), sample))
    # An ordinary filter would be pushed below the projection, and every record parsed once for each column it asks for.
    kept = records.select("timestamp", F.explode(F.filter(F.array(parsed), is_ours)).alias("p"))
    p = F.col("p")
    number = F.array_position(F.array(*map(F.lit, names)), p["model"]) - 1
    score = F.when(F.size(p["probability"]) == 2, p["probability"][1]).otherwise(p["prediction"])
    row = kept.select(
        F.lit("p").alias("kind"), _arrival(F.col("timestamp"), watch).alias("at"), F.xxhash64(p["event_id"]).alias("id"),
        _pair(p["key"], p["event_time"]).alias("pair"), number.cast("int").alias("model"), p["prediction"].alias("prediction"),
        score.alias("score"), F.substring(p["model_version"], 1, _VERSION).alias("subject"),
    )  # fmt: skip
    return row.where(_sampled(F.col("id"), sample))


def _labels(records: DataFrame, config: Config, schema: StructType, watch: Watch) -> DataFrame:
    assert config.labels is not None
    e = F.col(META)
    y = field_column(schema, config.labels.label).try_cast("double")
    decoded = decode(records, labels.label_events(config.labels), schema).where(F.col(PROBLEM).isNull())
    row = decoded.select(
        F.lit("l").alias("kind"), _arrival(e["timestamp"], watch).alias("at"), _pair(e["key"], e["event_time"]).alias("pair"), y.alias("y")
    )
    # Never sampled: a label does not say where its event stood. One of an event that was left out finds nothing, and is forgotten.
    return row.where(F.col("y").isNotNull() & ~F.isnan("y"))


def _rejected(records: DataFrame, config: Config, watch: Watch) -> DataFrame:
    """Events that were rejected, counted by reason; those of labels and predictions are not events."""
    assert config.monitor is not None
    header = {name: rejected.header(name) for name in rejected.HEADERS}
    place = F.xxhash64(F.concat_ws(":", header["source_topic"], header["source_partition"], header["source_offset"]))
    of_events = records.where(header["source_topic"] == config.events.topic).where(_sampled(place, config.monitor.sample))
    word = F.when(header["reason"].rlike(_WORD), header["reason"]).otherwise(F.lit(_OTHER))
    at = _arrival(F.col("timestamp"), watch)
    return of_events.select(F.lit("s").alias("kind"), (at - F.pmod(at, F.lit(watch.window))).alias("window"), F.lit(ALL).alias("slice"),
                            F.concat(F.lit(REJECTED), word).alias("subject"), F.array(F.lit(1.0)).alias("counts"), at.alias("at"))  # fmt: skip


def _pair(key: Column, time: Column) -> Column:
    """By what an event, its answers and its label find each other."""
    return F.xxhash64(key, F.unix_micros(time))


def _sampled(hashed: Column, share: float) -> Column:
    # Hashed again: others (a shuffle, a store) take a modulus of the same hash.
    return F.lit(True) if share >= 1.0 else F.pmod(F.xxhash64(hashed, F.lit(0)), F.lit(_MILLION)) < round(share * _MILLION)


def _arrival(timestamp: Column, watch: Watch) -> Column:
    """Arrival in milliseconds. A producer whose clock is ahead by more than a window does not carry the windows with it: the
    time of the batch, which Spark writes down and which is the same when the batch is repeated, bounds it."""
    bound = F.unix_millis(F.current_timestamp()) + F.lit(watch.window)
    return F.greatest(F.lit(0), F.least(F.unix_millis(timestamp), bound))


def payload(table: pa.Table, watch: Watch) -> Payload:
    """The collected rows as what the fold takes."""
    kinds = table.column("kind").combine_chunks()
    sums, events, answers, said = (table.filter(pc.equal(kinds, kind)) for kind in "sepl")
    counts: dict[int, list[Statistics]] = {}
    for row in sums.select(["window", "slice", "subject", "counts"]).to_pylist():
        counts.setdefault(row["window"], []).append(Statistics.from_json([row]))
    for start, version in _versions(answers, watch):
        counts.setdefault(start, []).append(version)
    k = len(watch.layout.slices)
    return Payload(
        {start: merged(counted) for start, counted in counts.items()},
        _structured(events, ledger.EVENT + ledger.codes(k), k),
        _structured(answers, ledger.ANSWER + ledger.codes(k), k),
        _structured(said, ledger.LABEL, 0),
        pc.max(table.column("at")).as_py() or 0,
    )


def _structured(table: pa.Table, fields: list[Any], k: int) -> ledger.Rows:
    made: ledger.Rows = np.zeros(table.num_rows, dtype=np.dtype(fields))
    for name in made.dtype.names or ():
        if name in table.column_names and name != "codes":
            made[name] = table.column(name).to_numpy()
    if k:
        known = pc.list_flatten(table.column("codes")).to_numpy()
        made["codes"] = known.reshape(-1, k) if len(known) == k * len(made) else -1
    return made


def _versions(answers: pa.Table, watch: Watch) -> Iterator[tuple[int, Statistics]]:
    """How many answers each version of each model gave, by window."""
    at = np.asarray(answers.column("at").to_numpy(), dtype=np.int64)
    starts = pa.array(at - at % watch.window)
    named = pa.table({"start": starts, "model": answers.column("model"), "version": pc.fill_null(answers.column("subject"), "")})
    for row in named.group_by(["start", "model", "version"]).aggregate([([], "count_all")]).to_pylist():
        subject = f"{VERSION}{watch.models[row['model']].name}:{row['version']}"
        yield row["start"], Statistics({(ALL, subject): np.asarray([float(row["count_all"])])})
