"""Batch scoring: every row is in the output once, whatever the format, the faults and the interruptions."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from streaming import config as cfg
from streaming.batch import inputs
from streaming.batch import run as batch
from streaming.batch.inputs import BatchInput
from streaming.config.sections import Kafka
from streaming.errors import ConfigError, StateError
from tests.support.pipelines import save_plan_model

SCHEMA = "id STRING, at STRING, plan STRING, minutes DOUBLE, calls INT"
N = 60


@pytest.fixture(scope="module")
def model(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_plan_model(spark, tmp_path_factory.mktemp("batch") / "model")


@pytest.fixture
def config(model: Path, tmp_path: Path) -> cfg.Config:
    return cfg.parse(
        {
            "name": "batch",
            "kafka": {"bootstrap_servers": "localhost:1"},
            "events": {"topic": "events", "schema": SCHEMA, "key": "id", "time": "at"},
            "model": {"name": "churn", "version": "3", "uri": str(model)},
            "predictions": {"topic": "p", "rejected_topic": "r"},
            "store": {"kind": "sqlite", "path": "x"},
            "state": str(tmp_path / "state"),
        }
    )


def event(i: int) -> dict[str, Any]:
    return {"id": f"c{i}", "at": f"2026-01-01T00:00:{i % 60:02d}Z", "plan": ("basic", "plus")[i % 2], "minutes": i / 2, "calls": i % 7}


def faulty() -> list[dict[str, Any]]:
    """Good events, and one of each fault that a table can have."""
    rows = [event(i) for i in range(N)]
    rows[3] |= {"id": None}
    rows[4] |= {"at": "yesterday"}
    rows[5] |= {"plan": "unheard of"}
    rows[6] |= {"plan": None}
    return rows


REASONS = {"missing_key": 1, "unparsable_time": 1, "pipeline_failure": 2}


def read(spark: SparkSession, folder: Path) -> list[Row]:
    return spark.read.parquet(str(folder)).collect()


def answers(rows: list[Row]) -> dict[str, tuple[float, tuple[float, ...]]]:
    return {r["key"]: (r["prediction"], tuple(r["probability"])) for r in rows if r["outcome"] == "predicted"}


def write(tmp_path: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / f"in.{kind}"
    if kind == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["json", "csv", "parquet"])
def test_every_format_gives_the_same_answers(spark: SparkSession, config: cfg.Config, tmp_path: Path, kind: str) -> None:
    rows = faulty()
    if kind != "parquet":
        rows[7] |= {"calls": "many"}
    # The stages themselves, bit for bit; what a fold may differ by is the next test's.
    staged = config.model_copy(update={"model": config.model.model_copy(update={"fold": "never"})})
    report = batch.run(staged, BatchInput(kind, str(write(tmp_path, kind, rows))), str(tmp_path / "out"), spark)
    scored = read(spark, tmp_path / "out")
    reasons = Counter(r["rejected"]["reason"] for r in scored if r["outcome"] == "rejected")
    assert reasons == REASONS | ({"wrong_type": 1} if kind != "parquet" else {})
    assert len(scored) == len({r["event_id"] for r in scored}) == N
    assert (report.rows, report.rejected, report.predicted) == (N, sum(reasons.values()), N - sum(reasons.values()))
    unheard = next(r for r in scored if r["outcome"] == "rejected" and r["key"] == "c5")
    assert json.loads(unheard["rejected"]["value"])["plan"] == "unheard of"
    assert unheard["prediction"] is None
    # The reference: the saved pipeline as Spark itself runs it.
    from pyspark.ml import PipelineModel

    good = spark.createDataFrame([event(i) for i in range(N) if i not in (3, 4, 5, 6, 7)], SCHEMA)
    expected = {
        r["id"]: (r["prediction"], tuple(r["probability"].toArray()))
        for r in PipelineModel.load(config.model.uri).transform(good).collect()
    }
    got = answers(scored)
    assert {key: got[key] for key in expected} == expected


def test_a_folded_model_gives_a_batch_the_labels_of_its_stages_and_their_probabilities(
    spark: SparkSession, config: cfg.Config, tmp_path: Path
) -> None:
    path = str(write(tmp_path, "parquet", [event(i) for i in range(N)]))
    said = []
    for fold in ("auto", "never"):
        changed = config.model_copy(update={"model": config.model.model_copy(update={"fold": fold})})
        batch.run(changed, BatchInput("parquet", path), str(tmp_path / fold), spark)
        said.append(answers(read(spark, tmp_path / fold)))
    folded, staged = said
    assert {key: label for key, (label, _) in folded.items()} == {key: label for key, (label, _) in staged.items()}
    for key, (_, probability) in staged.items():
        assert folded[key][1] == pytest.approx(probability, rel=0, abs=1e-9)


def test_a_csv_line_that_does_not_fit_the_header_is_rejected_as_it_came(spark: SparkSession, config: cfg.Config, tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [event(i) for i in range(4)])
    with path.open("a") as out:
        out.write("c9,2026-01-01T00:00:00Z,plus\n")
        out.write("c10,2026-01-01T00:00:00Z,plus,1.0,2,and more\n")
    batch.run(config, BatchInput("csv", str(path)), str(tmp_path / "out"), spark)
    rejected = {r["rejected"]["value"]: r["rejected"]["reason"] for r in read(spark, tmp_path / "out") if r["outcome"] == "rejected"}
    assert rejected == {
        "c9,2026-01-01T00:00:00Z,plus": "malformed_csv",
        "c10,2026-01-01T00:00:00Z,plus,1.0,2,and more": "malformed_csv",
    }


def test_a_delta_table_in_and_out(spark: SparkSession, config: cfg.Config, tmp_path: Path) -> None:
    spark.createDataFrame([event(i) for i in range(N)], SCHEMA).write.format("delta").save(str(tmp_path / "in"))
    batch.run(config, BatchInput("delta", str(tmp_path / "in")), str(tmp_path / "out"), spark, output_format="delta")
    rows = spark.read.format("delta").load(str(tmp_path / "out")).collect()
    assert sorted(answers(rows)) == sorted(f"c{i}" for i in range(N))


def test_an_interrupted_run_goes_on_with_what_is_missing(
    spark: SparkSession, config: cfg.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(3):
        pq.write_table(pa.Table.from_pylist([event(i) for i in range(part * 20, part * 20 + 20)]), folder / f"{part}.parquet")
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 1)
    source, out = BatchInput("parquet", str(folder)), tmp_path / "out"
    whole, written = batch._write, []

    def dies_at_the_second(*given: Any) -> Any:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(given)
        return whole(*given)

    monkeypatch.setattr(batch, "_write", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        batch.run(config, source, str(out), spark)
    assert not out.exists()
    monkeypatch.setattr(batch, "_write", whole)
    other = config.model_copy(update={"model": config.model.model_copy(update={"version": "4"})})
    with pytest.raises(StateError, match="unfinished run of another"):
        batch.run(other, source, str(out), spark)
    report = batch.run(config, source, str(out), spark)
    assert (report.chunks, report.resumed, report.predicted) == (3, 1, N)
    assert sorted(answers(read(spark, out))) == sorted(f"c{i}" for i in range(N))


def test_what_is_there_is_kept_unless_told_otherwise(spark: SparkSession, config: cfg.Config, tmp_path: Path) -> None:
    source, out = BatchInput("json", str(write(tmp_path, "json", [event(i) for i in range(3)]))), str(tmp_path / "out")
    batch.run(config, source, out, spark)
    with pytest.raises(ConfigError, match="is there already"):
        batch.run(config, source, out, spark)
    assert batch.run(config, source, out, spark, overwrite=True).rows == 3


def test_folders_are_columns_and_files_of_one_name_are_told_apart(spark: SparkSession, config: cfg.Config, tmp_path: Path) -> None:
    """Hive's way: the key and a number stand in the names of the folders only; each folder has a file of the same name."""
    root = tmp_path / "history"
    for i in range(4):
        folder = root / f"id=00{i}" / f"calls={i}"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([{name: event(i)[name] for name in ("at", "plan", "minutes")}] * 2), folder / "part-0.parquet")
    assert batch.run(config, BatchInput("parquet", str(root)), str(tmp_path / "out"), spark).predicted == 8
    rows = read(spark, tmp_path / "out")
    assert sorted({r["key"] for r in rows}) == ["000", "001", "002", "003"]
    assert len({r["event_id"] for r in rows}) == 8
    assert {r["event_id"] for r in rows if r["key"] == "002"} == {f"id=002/calls=2/part-0.parquet:0:{n}" for n in (0, 1)}


def test_a_run_is_only_gone_on_with_as_it_was_begun(
    spark: SparkSession, config: cfg.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = BatchInput("json", str(write(tmp_path, "json", [event(i) for i in range(3)]))), tmp_path / "out"
    monkeypatch.setattr(batch, "_move", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.run(config, source, str(out), spark)
    monkeypatch.undo()
    for key, value in {"key": "plan", "time": None, "columns": {"m": "minutes"}, "max_future": None}.items():
        other = config.model_copy(update={"events": config.events.model_copy(update={key: value})})
        with pytest.raises(StateError, match="unfinished run of another decoding"):
            batch.run(other, source, str(out), spark)
    report = batch.run(config, source, str(out), spark)
    assert (report.resumed, report.predicted) == (1, 3)


def test_a_manifest_comes_last_and_names_every_file(
    spark: SparkSession, config: cfg.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = BatchInput("json", str(write(tmp_path, "json", faulty()))), tmp_path / "out"
    seal = batch._seal
    monkeypatch.setattr(batch, "_seal", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.run(config, source, str(out), spark)
    assert not (out / batch.MANIFEST).exists()
    monkeypatch.setattr(batch, "_seal", seal)
    report = batch.run(config, source, str(out), spark)  # the same command again puts the manifest there
    assert (report.rows, report.rejected, report.resumed) == (N, 4, 1)
    manifest = json.loads((out / batch.MANIFEST).read_text())
    assert {name: manifest[name] for name in ("rows", "predicted", "rejected", "chunks")} == {
        "rows": N,
        "predicted": N - 4,
        "rejected": 4,
        "chunks": 1,
    }
    assert manifest["files"] == {str(f.relative_to(out)): f.stat().st_size for f in out.rglob("*.parquet") if not f.name.startswith(".")}
    with pytest.raises(ConfigError, match="is there already"):
        batch.run(config, source, str(out), spark)


@pytest.mark.parametrize("whole", [True, False])
def test_a_result_that_was_half_put_in_place_is_made_anew(
    spark: SparkSession, config: cfg.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """As an object store leaves it, where a rename copies one file after the other: some are in place, of the others some are gone."""
    source, out = BatchInput("json", str(write(tmp_path, "json", [event(i) for i in range(5)]))), tmp_path / "out"

    def half(_: SparkSession, uri: str, target: str) -> None:
        shutil.copytree(uri, target, ignore=None if whole else shutil.ignore_patterns("_plan.json"))
        next(Path(uri).rglob("*.parquet")).unlink()
        raise OSError("the object store is gone")

    monkeypatch.setattr(batch, "_move", half)
    with pytest.raises(OSError, match="the object store is gone"):
        batch.run(config, source, str(out), spark)
    monkeypatch.undo()
    assert batch.run(config, source, str(out), spark).predicted == 5
    assert len(read(spark, out)) == 5


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (BatchInput("parquet", "/nowhere/at/all"), "no such file"),
        (BatchInput("kafka", start="soon"), "--from: got 'soon'"),
    ],
)
def test_an_input_that_cannot_be_read(spark: SparkSession, config: cfg.Config, tmp_path: Path, source: BatchInput, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        batch.run(config, source, str(tmp_path / "out"), spark)


def test_a_table_without_the_key(spark: SparkSession, config: cfg.Config, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"at": ["2026-01-01"], "plan": ["plus"]}), path)
    with pytest.raises(ConfigError, match="no column id"):
        batch.run(config, BatchInput("parquet", str(path)), str(tmp_path / "out"), spark)


def test_a_range_of_the_topic(spark: SparkSession, config: cfg.Config, tmp_path: Path, broker: Any, topics: Callable[..., str]) -> None:
    from kafka import KafkaProducer

    topic = topics(2)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for i in range(N):
        producer.send(
            topic,
            key=b"k",
            value=json.dumps(event(i)).encode() if i else b"\xff",
            partition=i % 2,
            timestamp_ms=1_767_225_600_000 + i * 1000,
        )
    producer.flush()
    producer.close()
    changed = {"kafka": Kafka(bootstrap_servers=broker.bootstrap_servers), "events": config.events.model_copy(update={"topic": topic})}
    live = config.model_copy(update=changed)
    report = batch.run(live, BatchInput("kafka"), str(tmp_path / "all"), spark)
    assert (report.rows, report.rejected) == (N, 1)
    assert next(r for r in read(spark, tmp_path / "all") if r["outcome"] == "rejected")["event_id"] == f"{topic}:0:0"
    batch.run(live, BatchInput("kafka", start="2026-01-01T00:00:10Z", end="2026-01-01T00:00:20+00:00"), str(tmp_path / "some"), spark)
    assert sorted(answers(read(spark, tmp_path / "some"))) == sorted(f"c{i}" for i in range(10, 20))
