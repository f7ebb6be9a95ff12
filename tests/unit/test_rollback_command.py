"""`streaming rollback` and `resume` wait for the job's word as long as they are told, and say what became of the request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from streaming import config as cfg
from streaming.cli.main import cli
from streaming.learning import versions
from streaming.learning.state_log import Meta, Snapshot
from streaming.learning.teach import open_learners
from streaming.online.base import to_arrays
from streaming.online.weights import Weights
from streaming.runtime import files
from streaming.runtime.claim import claim

WEIGHTS = Weights("logistic", np.array([0.3, -0.2]), np.array(0.1))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A job with a learner that has one learned version, 0."""
    tree = {
        "name": "kept",
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "events": {"topic": "events", "schema": "id STRING, at STRING, x DOUBLE, label DOUBLE", "key": "id", "time": "at"},
        "model": {"name": "churn", "version": "3", "uri": "model"},
        "predictions": {"topic": "predictions", "shadow_topic": "shadow", "rejected_topic": "rejected"},
        "store": {"kind": "sqlite", "path": str(tmp_path / "predictions.db")},
        "labels": {"field": "label"},
        "learners": [{"name": "online", "algorithm": "logistic_regression"}],
        "state": str(tmp_path / "state"),
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(tree))
    loaded = cfg.load(path)
    (learning,) = open_learners(loaded, files.folder(loaded.state, lambda: pytest.fail("local state needs no Spark")))
    learning.log.begin(0, learning.start)
    meta = Meta(0, "0", learned=5, total=5, at="2026-01-01T00:00:00.000+00:00")
    learning.log.add(0, Snapshot(meta, to_arrays(learning.learner.warm(WEIGHTS))))
    return path


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on only while somebody sleeps, and how long each sleep was."""
    sleeps: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return sum(sleeps)

        @staticmethod
        def sleep(seconds: float) -> None:
            sleeps.append(seconds)

    monkeypatch.setattr(versions, "time", Clock)
    return sleeps


@pytest.fixture
def silent_job(config: Path) -> Iterator[None]:
    """A job that runs, and answers nothing."""
    with claim(files.folder(cfg.load(config).state, lambda: pytest.fail("local state needs no Spark")), "learn"):
        yield


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.usefixtures("silent_job")
@pytest.mark.parametrize(("options", "seconds"), [((), 60), (("--wait", "7"), 7), (("--wait", "0"), 0)])
def test_it_waits_so_long_and_leaves_the_request(config: Path, slept: list[float], options: tuple[str, ...], seconds: float) -> None:
    answer = call("rollback", config, "online", "--to", "0", *options)
    assert answer.exit_code == 0
    assert "the job has not answered yet; the request for version 0 stays until it does" in answer.output
    assert seconds <= sum(slept) < seconds + 1.5
    learning = versions.learner(cfg.load(config), "online", lambda: pytest.fail("local state needs no Spark"))
    asked = learning.log.commands.waiting()
    assert asked is not None
    assert asked.to == "0"


def test_who_asked_is_in_the_audit_log(config: Path, slept: list[float]) -> None:
    call("rollback", config, "online", "--to", "0", "--actor", "ada")
    log = cfg.load(config).state + "/audit.jsonl"
    begun, done = (json.loads(line) for line in Path(log).read_text().splitlines())
    assert begun["actor"].startswith("ada (")
    assert [begun[name] for name in ("action", "about", "before", "result")] == ["rollback", "learner online", "0", "begun"]
    assert (done["after"], done["result"]) == ("0 (no job)", "done")


def test_nobody_is_waited_for_when_no_job_runs(config: Path, slept: list[float]) -> None:
    assert "no job runs here; version 0 comes into force when one starts" in call("rollback", config, "online", "--to", "0").output
    assert slept == []


@pytest.mark.parametrize("wrong", ["-1", "soon", "nan", "1.5"])
@pytest.mark.parametrize("command", [("rollback", "--to", "0"), ("resume",)])
def test_a_wait_that_is_no_number_of_seconds_is_refused(config: Path, command: tuple[str, ...], wrong: str) -> None:
    answer = call(command[0], config, "online", *command[1:], "--wait", wrong)
    assert answer.exit_code == 2
    assert "--wait" in answer.output
