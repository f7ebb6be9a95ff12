"""The monitor lane on real Spark, without a broker: records in, windows out; the same however they are cut and wherever it dies."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streaming import config as cfg
from streaming.errors import StateError
from streaming.lanes import monitor
from streaming.lanes.monitor_rows import MonitorInputs, rows
from streaming.learning import labels
from streaming.monitor import overview, quality, windows
from streaming.monitor.baseline import AnsweredRows, Baseline, of_table
from streaming.monitor.record import rejections
from streaming.monitor.statistics import ALL, FEATURES, QUALITY, SCORE, Statistics
from streaming.monitor.windows import rows_of
from streaming.records.schema import event_schema
from streaming.runtime.files import LocalFolder

KAFKA = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
START = datetime(2026, 1, 1, tzinfo=UTC)
N = 300
PLANS = ("basic", "plus", "pro")


def plan(i: int) -> str:
    return PLANS[i % 3]


def config(state: Path, **monitor: Any) -> cfg.Config:
    return cfg.parse(
        {
            "name": "watched",
            "kafka": {"bootstrap_servers": "nowhere:9092"},
            "events": {
                "topic": "events",
                "schema": "id STRING, at STRING, plan STRING, minutes DOUBLE, calls INT",
                "key": "id",
                "time": "at",
            },
            "model": {"name": "churn", "version": "3", "uri": "models/none"},
            "predictions": {"topic": "predictions", "rejected_topic": "rejected"},
            "labels": {"topic": "labels", "max_delay": "1 hour"},
            "store": {"kind": "sqlite", "path": "none.db"},
            "state": str(state),
            "monitor": {"window": "1 minute", "slices": ["plan"], "least_rows": 50, **monitor},
        }
    )


@pytest.fixture(scope="module")
def base() -> Baseline:
    rng = np.random.default_rng(1)
    table = pa.table({"plan": [plan(i) for i in range(2000)], "minutes": rng.normal(50, 9, 2000), "calls": rng.integers(0, 7, 2000)})
    score = rng.random(2000)
    answers = AnsweredRows("churn", "probability", (score > 0.5).astype(float), score, (rng.random(2000) < score).astype(float))
    return of_table(table, columns=["plan", "minutes", "calls"], slices=["plan"], source="test", answers=answers)


def at(i: int) -> datetime:
    """Two minutes and a half of events: two windows that are over, and one that goes on."""
    return START + timedelta(seconds=150 * i / N)


def record(topic: str, i: int, when: datetime, value: Any, headers: list[tuple[str, str]] | None = None) -> tuple[Any, ...]:
    told = [(name, text.encode()) for name, text in headers or []]
    return (b"k", value if isinstance(value, bytes) else json.dumps(value).encode(), topic, 0, i, when, told or None)


def topics() -> dict[str, list[tuple[Any, ...]]]:
    rng = np.random.default_rng(2)
    minutes, score = rng.normal(50, 9, N), rng.random(N)
    stamp = [at(i).isoformat(timespec="milliseconds") for i in range(N)]
    events, predictions, truth, rejected = [], [], [], []
    for i in range(N):
        if i % 50 == 49:
            events.append(record("events", i, at(i), b"{not json"))
            told = {
                "reason": "malformed_json",
                "error": "no",
                "source_topic": "events",
                "source_partition": "0",
                "source_offset": str(i),
                "lane": "score",
            }
            rejected.append(record("rejected", len(rejected), at(i), b"{not json", [*told.items()]))
            continue
        events.append(record("events", i, at(i), {"id": f"c{i}", "at": stamp[i], "plan": plan(i), "minutes": minutes[i], "calls": i % 7}))
        answer = {
            "event_id": f"events:0:{i}",
            "key": f"c{i}",
            "event_time": stamp[i].replace("+00:00", "000Z"),
            "model": "churn",
            "model_version": "3",
        }
        answer |= {"prediction": float(score[i] > 0.5), "probability": [1 - score[i], score[i]]}
        predictions.append(record("predictions", len(predictions), at(i) + timedelta(milliseconds=5), answer))
        if i % 10 == 0:  # written again after a crash of the score lane
            predictions.append(record("predictions", len(predictions), at(i) + timedelta(milliseconds=9), answer))
        if i % 2 == 0:
            label = {"key": f"c{i}", "event_time": stamp[i], "label": float(rng.random() < score[i])}
            truth.append(record("labels", len(truth), at(i) + timedelta(seconds=20), label))
    hostile = {
        "reason": "Bearer sk-live-1",
        "error": "",
        "source_topic": "events",
        "source_partition": "0",
        "source_offset": "9",
        "lane": "score",
    }
    # The headers of the original record stand before those of the service.
    forged = [("reason", "forged_by_a_producer"), ("source_topic", "labels"), *hostile.items()]
    rejected.append(record("rejected", len(rejected), at(7), b"", forged))
    rejected.append(record("rejected", len(rejected), at(8), b"", [*(hostile | {"source_topic": "labels"}).items()]))
    return {"events": events, "predictions": predictions, "labels": truth, "rejected": rejected}


class Crash(Exception):
    """The process ends here."""


class Run:
    """The lane over one state folder; a crash is a new process: nothing in memory is left."""

    def __init__(self, spark: SparkSession, base: Baseline, state: Path, **monitor: Any) -> None:
        self.spark, self.base, self.state, self.config = spark, base, LocalFolder(state), config(state, **monitor)
        self.start()

    def start(self) -> None:
        self.watcher = monitor.open_watcher(self.config, self.base, self.state)

    def batch(self, n: int, part: dict[str, list[tuple[Any, ...]]], *, crash_at: str = "") -> list[Any]:
        def step(name: str) -> None:
            if name == crash_at:
                raise Crash(name)

        frames = {name: self.frame(records) for name, records in part.items()}
        schema = event_schema(self.spark, self.config.events)
        assert self.config.labels is not None
        label_schema = event_schema(self.spark, labels.label_events(self.config.labels))
        inputs = MonitorInputs(frames["events"], frames["predictions"], frames["rejected"], frames["labels"], schema, label_schema)
        # In a batch the time is that of now; the records are older, so no bound is felt.
        done = monitor.watch_batch(rows(inputs, self.config, self.watcher.watch), n, watcher=self.watcher, at=step)
        return [] if done is None else done[1]

    def frame(self, records: list[tuple[Any, ...]]) -> DataFrame:
        return self.spark.createDataFrame(records, KAFKA).coalesce(1)

    def sums(self) -> dict[int, Statistics]:
        history = self.watcher.history
        published = {start: history.newest_sums(start) for start in history.starts()}
        newest = [name for name in self.watcher.states.folder.names() if name.endswith(".npz")][-1]
        state = windows.from_bytes(self.watcher.states.folder.read(newest) or b"")
        return {s: v for s, v in published.items() if v is not None} | {s: w.statistics for s, w in state.windows.items()}


def parts(whole: dict[str, list[tuple[Any, ...]]], shares: dict[str, tuple[float, float]]) -> list[dict[str, list[tuple[Any, ...]]]]:
    """Three batches; the sources are not read in step."""
    cut = {name: [0, *(int(share * len(whole[name])) for share in shares[name]), len(whole[name])] for name in whole}
    return [{name: records[cut[name][i] : cut[name][i + 1]] for name, records in whole.items()} for i in range(3)]


@pytest.fixture(scope="module")
def runs(spark: SparkSession, base: Baseline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, list[Any]]:
    """One pass over everything; and three batches, out of step, each of which dies once and one of which comes twice."""
    whole = topics()
    at_once = Run(spark, base, tmp_path_factory.mktemp("one"))
    records = at_once.batch(0, whole)
    cut = Run(spark, base, tmp_path_factory.mktemp("cut"))
    shares = {"events": (0.5, 0.6), "predictions": (0.3, 0.95), "labels": (0.9, 0.95), "rejected": (0.1, 0.2)}
    for n, (part, step) in enumerate(zip(parts(whole, shares), ("collected", "written", "published"), strict=True)):
        with pytest.raises(Crash):
            cut.batch(n, part, crash_at=step)
        cut.start()
        cut.batch(n, part)
    cut.start()
    assert cut.batch(2, part) == []
    return at_once, cut, records


def test_three_batches_that_died_equal_one_pass(runs: tuple[Run, Run, list[Any]]) -> None:
    at_once, cut, _ = runs
    expected, sums = at_once.sums(), cut.sums()
    assert expected.keys() == sums.keys()
    for start in expected:
        for key, vector in expected[start].values.items():
            if not key[1].startswith("version:"):
                np.testing.assert_allclose(
                    sums[start].values[key], vector, rtol=1e-12 if key[1].startswith(QUALITY) else 0, err_msg=str(key)
                )


def test_every_event_answer_and_label_is_counted_once(runs: tuple[Run, Run, list[Any]]) -> None:
    at_once, _, _ = runs
    total = sum(at_once.sums().values(), Statistics())
    good = N - N // 50
    assert rows_of(total, at_once.base.layout) == good
    scores, pairs = total.get(ALL, f"{SCORE}churn"), total.get(ALL, f"{QUALITY}churn")
    assert scores is not None
    assert scores[:-3].sum() == good
    assert pairs is not None
    assert pairs[quality.N] == sum(1 for i in range(0, N, 2) if i % 50 != 49)
    by_slice = sum(float(v[:-3].sum()) for s in ("plan#0", "plan#1", "plan#2") if (v := total.get(s, f"{SCORE}churn")) is not None)
    assert by_slice == good
    features = total.get("plan#1", FEATURES)
    assert features is not None


def test_the_reason_of_a_rejection_is_a_word_and_no_value_of_an_event(runs: tuple[Run, Run, list[Any]]) -> None:
    at_once, _, records = runs
    total = sum(at_once.sums().values(), Statistics())
    assert rejections(total) == {"malformed_json": N // 50, "other": 1}
    said = json.dumps([record.to_json() for record in records])
    for value in ("sk-live", "forged", "basic", "plus", 'pro"', "c17"):
        assert value not in said


def test_the_history_is_a_table_with_the_newest_revision_of_each_window(runs: tuple[Run, Run, list[Any]]) -> None:
    at_once, cut, _ = runs
    assert (
        at_once.watcher.history.starts() == cut.watcher.history.starts() == [int(START.timestamp() * 1000) + k * 60_000 for k in range(2)]
    )
    tables = [run.watcher.history.table() for run in (at_once, cut)]
    seen = [overview.windows(table) for table in tables]
    for alone, together in zip(*seen, strict=True):
        for what in ("rows", "answers", "labels"):
            assert alone.value("window", what) == together.value("window", what), what
        assert not alone.drifted
        truth, expected = (alone.figure(kind, "accuracy", subject="churn") for kind in ("truth", "expected"))
        assert truth is not None
        assert expected is not None
        assert truth["low"] - 0.1 < expected["value"] < truth["high"] + 0.1
    file = next(iter(cut.watcher.history.figures.names()))
    assert pq.read_table(io.BytesIO(cut.watcher.history.figures.read(file) or b"")).num_rows > 50


def test_what_drifts_is_named(spark: SparkSession, base: Baseline, tmp_path: Path) -> None:
    whole = topics()
    moved = [
        r if b"minutes" not in r[1] else (r[0], json.dumps(json.loads(r[1]) | {"minutes": 90.0}).encode(), *r[2:]) for r in whole["events"]
    ]
    records = Run(spark, base, tmp_path).batch(0, whole | {"events": moved})
    assert {m.subject for m in records[0].drifted("feature")} == {"minutes"}
    line = json.dumps(records[0].to_json())
    assert '"minutes"' in line


def test_a_text_that_is_no_label_ends_nothing(spark: SparkSession, base: Baseline, tmp_path: Path) -> None:
    """Events that carry their label as text: "n/a" is none, and every other event is counted as ever."""
    own = config(tmp_path)
    assert own.labels is not None
    events = own.events.model_copy(update={"ddl": f"{own.events.ddl}, truth STRING"})
    own = own.model_copy(update={"events": events, "labels": own.labels.model_copy(update={"topic": None, "field": "truth"})})
    said = ("1", "n/a", None, "0.0", "NaN", "")
    records = [
        record("events", i, at(i), {"id": f"c{i}", "at": at(i).isoformat(), "plan": plan(i), "truth": y}) for i, y in enumerate(said)
    ]
    none = spark.createDataFrame([], KAFKA)
    inputs = MonitorInputs(spark.createDataFrame(records, KAFKA).coalesce(1), none, none, None, event_schema(spark, own.events), None)
    brought = rows(inputs, own, monitor.open_watcher(own, base, LocalFolder(tmp_path)).watch).collect()
    assert sorted(row["y"] for row in brought if row["kind"] == "l") == [0.0, 1.0]
    assert sum(row["kind"] == "e" for row in brought) == len(said)


def counts(run: Run) -> tuple[float, float, float, float]:
    """Events, answers, answers whose slice is known, and pairs of answer and label that were counted."""
    total = sum(run.sums().values(), Statistics())
    scores, pairs = total.get(ALL, f"{SCORE}churn"), total.get(ALL, f"{QUALITY}churn")
    by_slice = [v for (slice_, what), v in total.values.items() if slice_ and what == f"{SCORE}churn"]
    assert scores is not None
    assert pairs is not None
    return rows_of(total, run.base.layout), scores[:-3].sum(), sum(v[:-3].sum() for v in by_slice), pairs[quality.N]


def test_a_sample_has_of_each_event_all_or_nothing_however_its_answer_is_written(
    spark: SparkSession, base: Baseline, tmp_path: Path
) -> None:
    whole = topics()

    def written(i: int, r: tuple[Any, ...]) -> tuple[Any, ...]:
        """As the service does; with spaces; or in another order."""
        fields = json.loads(r[1])
        text = [json.dumps(fields, separators=(",", ":")), json.dumps(fields), json.dumps(dict(reversed(fields.items())))][i % 3]
        return (r[0], text.encode(), *r[2:])

    mixed = whole | {"predictions": [written(i, r) for i, r in enumerate(whole["predictions"])]}
    of_all, some = Run(spark, base, tmp_path / "all"), Run(spark, base, tmp_path / "some", sample=0.4)
    of_all.batch(0, mixed)
    some.batch(0, mixed)
    everything, sampled = counts(of_all), counts(some)
    assert sampled[0] == sampled[1] == sampled[2]  # each event with its answer, each answer with its event's slice
    assert 0.3 * everything[0] < sampled[0] < 0.5 * everything[0]
    assert 0.3 * everything[3] < sampled[3] < 0.5 * everything[3]
    again = Run(spark, base, tmp_path / "again", sample=0.4)
    for n, part in enumerate(
        parts(whole, {"events": (0.5, 0.6), "predictions": (0.3, 0.95), "labels": (0.9, 0.95), "rejected": (0.1, 0.2)})
    ):
        again.batch(n, part)
    assert counts(again) == sampled  # the same ones, whatever the batches are


def test_a_state_that_is_gone_is_an_error_and_no_fresh_start(spark: SparkSession, base: Baseline, tmp_path: Path) -> None:
    run = Run(spark, base, tmp_path)
    run.watcher.states.folder.create("started", b"0")
    with pytest.raises(StateError, match="no state after batch 4"):
        run.watcher.states.before(5, run.watcher.watch)


def test_hashes_in_spark_find_each_other_whatever_wrote_the_time(spark: SparkSession) -> None:
    from streaming.lanes.monitor_rows import _pair

    times = spark.range(1).select(
        _pair(F.lit("k"), F.to_timestamp(F.lit("2026-01-01T00:00:00.5Z"))).alias("a"),
        _pair(F.lit("k"), F.timestamp_micros(F.lit(1767225600500000))).alias("b"),
    )
    row = times.first()
    assert row is not None
    assert row["a"] == row["b"]
