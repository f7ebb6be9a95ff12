"""What keeps a job from starting: one readable error each, with its cause and the next step, and never a stack trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streaming import config as cfg
from streaming.errors import (
    BrokerUnavailable,
    ConfigError,
    EnvironmentFailure,
    ModelError,
    StateError,
    StoreError,
    StoreUnavailable,
    StreamingError,
)
from streaming.job import preflight
from streaming.kafka import client
from tests.support.job import write_config

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Tree = dict[str, Any]


def nothing(tree: Tree, folder: Path) -> None:
    """The configuration as it is."""


def no_broker(tree: Tree, folder: Path) -> None:
    tree["kafka"]["bootstrap_servers"] = "127.0.0.1:1"


def no_topic(tree: Tree, folder: Path) -> None:
    tree["events"]["topic"] = "nobody-made-this"


def no_model(tree: Tree, folder: Path) -> None:
    tree["model"]["uri"] = str(folder / "nowhere")


def other_files(tree: Tree, folder: Path) -> None:
    tree["model"]["sha256"] = "0" * 64


def foreign_class(tree: Tree, folder: Path) -> None:
    copy = folder / "copy"
    shutil.copytree(tree["model"]["uri"], copy)
    for part in (copy / "metadata").glob("part-*"):
        part.write_text(part.read_text().replace("org.apache.spark.ml.PipelineModel", "com.evil.Model"))
    for crc in (copy / "metadata").glob(".*.crc"):
        crc.unlink()
    tree["model"]["uri"] = str(copy)


def no_such_column(tree: Tree, folder: Path) -> None:
    tree["events"]["schema"] = "id STRING, at STRING, plan STRING, minutes_used DOUBLE, calls INT"


def bad_ddl(tree: Tree, folder: Path) -> None:
    tree["events"]["schema"] = "id STRING, at STRNG"


def bad_key(tree: Tree, folder: Path) -> None:
    tree["events"]["key"] = "customer"


def fast_trigger(tree: Tree, folder: Path) -> None:
    tree["score"] = {"mode": "realtime", "trigger": "1 second"}


def no_postgres(tree: Tree, folder: Path) -> None:
    tree["store"] = {"kind": "postgres", "dsn": "postgresql://scorer:topsecret@127.0.0.1:1/db"}


def wrong_table(tree: Tree, folder: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(tree["store"]["path"])
    connection.execute("CREATE TABLE predictions (key TEXT, model INTEGER)")
    connection.close()


def other_state(tree: Tree, folder: Path) -> None:
    Path(tree["state"]).mkdir()
    (Path(tree["state"]) / "job.json").write_text('{"name": "another", "events": "a", "predictions": "b"}')


def learner_typo(tree: Tree, folder: Path) -> None:
    tree["predictions"]["shadow_topic"] = tree["predictions"]["topic"]
    tree["labels"] = {"field": "minutes"}
    tree["learners"] = [{"name": "l", "algorithm": "logistic_regression", "params": {"learning_rat": 0.1}}]


CASES: list[tuple[Callable[[Tree, Path], None], type[StreamingError], str]] = [
    (no_broker, BrokerUnavailable, "streaming kafka"),
    (no_topic, ConfigError, "streaming topics"),
    (no_model, ModelError, "nowhere"),
    (other_files, ModelError, "sha256"),
    (foreign_class, ModelError, "com.evil.Model"),
    (no_such_column, ConfigError, "did you mean"),
    (bad_ddl, ConfigError, "events.schema"),
    (bad_key, ConfigError, "events.key"),
    (fast_trigger, ConfigError, "score.trigger"),
    (wrong_table, StoreError, "predictions"),
    (other_state, StateError, "another"),
    (learner_typo, ConfigError, "learning_rate"),
]


@pytest.mark.parametrize(("spoil", "kind", "hint"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_job_that_cannot_run_says_why(
    spark: SparkSession,
    tree: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Tree, Path], None],
    kind: type[StreamingError],
    hint: str,
) -> None:
    monkeypatch.setattr(client, "ANSWER_WITHIN_MS", 3_000)  # a broker that is away is waited for
    spoil(tree, tmp_path)
    config = cfg.parse(tree, source="job.yaml")
    with pytest.raises(StreamingError) as refused:
        preflight.demand(spark, config, lanes=("score", "store"), source="job.yaml")
    assert type(refused.value) is kind, refused.value
    assert hint in str(refused.value)
    assert "topsecret" not in str(refused.value)
    written = {path.name for path in Path(tree["state"]).glob("*")} - {"logs"}
    assert written <= ({"job.json"} if spoil is other_state else set())  # so the same version can be made anew, and mended


def test_a_database_that_is_away_is_said_and_keeps_nobody_else_from_starting(
    spark: SparkSession, tree: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    no_postgres(tree, tmp_path)
    ready = preflight.demand(spark, cfg.parse(tree), lanes=("score", "store"), source="job.yaml")
    assert ready.store is None
    assert "127.0.0.1:1" in caplog.text
    assert "topsecret" not in caplog.text
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):  # what the lane meets until it is there
        preflight.store_of(ready)
    shown: list[preflight.Outcome] = []
    assert not preflight.survey(spark, cfg.parse(tree), lanes=("score", "store"), source="job.yaml", show=shown.append)
    assert [outcome.name for outcome in shown if not outcome.ok] == ["store"]


def test_too_few_slots_are_refused_with_the_number_that_is_needed(spark: SparkSession, tree: Tree, topics: Callable[..., str]) -> None:
    tree["score"] = {"mode": "realtime"}
    tree["events"]["topic"] = topics(5)
    with pytest.raises(EnvironmentFailure, match=r"Spark has 8 .* local\[9\]"):  # five partitions and four more
        preflight.demand(spark, cfg.parse(tree), lanes=("score", "store"), source="job.yaml")


def test_check_shows_every_outcome(spark: SparkSession, tree: Tree, tmp_path: Path) -> None:
    no_such_column(tree, tmp_path)
    shown: list[preflight.CheckOutcome] = []
    well = preflight.survey(spark, cfg.parse(tree), lanes=("score", "store"), source="job.yaml", show=shown.append)
    assert not well
    assert {outcome.name: outcome.ok for outcome in shown} == {
        "broker and topics": True, "event schema": True, "model": True, "model columns": False, "mode": True,
        "task slots": True, "state": True, "learners": True, "store": True,
    }  # fmt: skip
    assert not list(Path(tree["state"]).glob("*.json"))
    assert not (Path(tree["state"]) / "model_versions").exists()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streaming", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | environment,
        check=False,
    )


def test_the_command_leaves_with_the_right_code_and_no_stack_trace(tree: Tree, tmp_path: Path) -> None:
    no_topic(tree, tmp_path)
    done = run("serve", str(write_config(tmp_path / "job.yaml", tree)))
    assert done.returncode == 2
    assert "no topic nobody-made-this" in done.stderr
    assert "Traceback" not in done.stderr
    assert "at org.apache" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("serve", "nowhere.yaml"), 2, "no such file"),
        (("serve",), 2, "Missing argument"),
        (("score", "x"), 2, "No such command"),
    ],
)
def test_a_wrong_call_is_explained(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_java_is_explained(tree: Tree, tmp_path: Path) -> None:
    done = run("serve", str(write_config(tmp_path / "job.yaml", tree)), PATH="/nowhere", JAVA_HOME="")
    assert done.returncode == 2
    assert "Java 17" in done.stderr
    assert "Traceback" not in done.stderr
