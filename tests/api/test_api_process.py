"""The real process: it starts from a configuration, answers, takes up a new one on SIGHUP, and ends cleanly; or says why not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from streaming import config as cfg
from streaming.api import server, sources
from streaming.config.sections import Api
from streaming.config.stores import DeltaSection, SqliteSection
from streaming.errors import EnvironmentFailure, ModelError


def write_config(folder: Path, **model: object) -> Path:
    """A configuration whose model is of scikit-learn, so that no Spark is needed to make one."""
    tree = {
        "name": "churn",
        "kafka": {"bootstrap_servers": "localhost:1"},
        "events": {"topic": "customers", "schema": "id STRING, a DOUBLE, b DOUBLE", "key": "id"},
        "model": {"name": "churn", "version": "1", "format": "sklearn", "uri": str(folder / "model.skops"), **model},
        "predictions": {"topic": "p", "rejected_topic": "r"},
        "store": {"kind": "sqlite", "path": str(folder / "predictions.db")},
        "state": str(folder / "state"),
    }
    path = folder / "api.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@contextmanager
def process(path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "streaming", "api", str(path)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait(30)
        assert started.stderr is not None
        started.stderr.close()


def last_words(path: Path) -> tuple[int, str]:
    with process(path) as started:
        _, said = started.communicate(timeout=120)
        return started.returncode, said


def test_a_model_that_is_missing_is_one_readable_error(tmp_path: Path) -> None:
    code, said = last_words(write_config(tmp_path))
    assert code == 2
    assert f"error: {tmp_path / 'model.skops'}: no such model; check model.uri" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_one_readable_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFailure, match=f"127.0.0.1 port {port}: another process listens there; stop it, or choose"):
            server.listen(Api(port=port))


def test_an_address_of_another_machine_is_one_readable_error() -> None:
    with pytest.raises(EnvironmentFailure, match=r"192\.0\.2\.1 port 8000: cannot listen there"):
        server.listen(Api(host="192.0.2.1", token="a-token-of-some-length"))  # type: ignore[arg-type]


def test_a_missing_package_names_the_extra() -> None:
    script = "import sys; sys.modules['uvicorn'] = None\nfrom streaming.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", script, "api", "x.yaml"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "pip install 'streaming-scoring[api]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_delta_store_is_answered_in_words(tmp_path: Path) -> None:
    store, words = server.lookup(DeltaSection(kind="delta", uri="x"))
    assert store is None
    assert "streaming get CONFIG KEY" in words
    lookup, _ = server.lookup(SqliteSection(kind="sqlite", path=str(tmp_path / "x.db")))
    assert lookup is not None


def test_the_mark_of_a_source_changes_with_its_files(tmp_path: Path) -> None:
    path = write_config(tmp_path, uri=str(tmp_path / "model"))
    source = sources.ConfigSource(path)
    marks = [source.mark()]
    (tmp_path / "model").mkdir()
    for act in (
        lambda: (tmp_path / "model" / "a").write_text("1"),
        lambda: (tmp_path / "model" / "a").write_text("22"),
        lambda: path.write_text(path.read_text() + "\n"),
        lambda: path.write_text("not: [valid"),
    ):
        act()
        marks.append(source.mark())
    assert len(set(marks)) == len(marks)
    assert source.mark() == marks[-1]


def test_a_package_is_made_once_for_each_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stage").write_text("1")
    section = cfg.load(write_config(tmp_path, uri=str(tmp_path / "model"), format="spark")).model
    made: list[Path] = []
    environments: list[dict[str, str]] = []
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2")

    def package(command: list[str], **environment: Any) -> subprocess.CompletedProcess[str]:
        made.append(Path(command[-1]))
        made[-1].mkdir()
        (made[-1] / "MANIFEST.json").write_text(json.dumps({"source": {"sha256": sources.fingerprint(section)}}))
        environments.append(environment["env"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", package)
    first = sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml")
    assert sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml") == first
    (tmp_path / "model" / "stage").write_text("2")
    assert sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml") != first
    assert len(made) == 2
    assert all("PATH" in each and "POSTGRES_PASSWORD" not in each for each in environments)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")) == []


def test_a_package_that_others_could_have_put_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stage").write_text("1")
    section = cfg.load(write_config(tmp_path, uri=str(tmp_path / "model"), format="spark")).model
    known = sources.fingerprint(section)
    folder = tmp_path / "cache" / f"{section.name}-{str(known)[:16]}"
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text(json.dumps({"source": {"sha256": str(known)[:16] + "0" * 48}}))
    with pytest.raises(ModelError, match="changed or tampered with"):
        sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml")
    (folder / "MANIFEST.json").write_text(json.dumps({"source": {"sha256": known}}))
    assert sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml") == folder
    for place in (tmp_path / "cache", folder, folder / "MANIFEST.json"):
        before = place.stat().st_mode
        place.chmod(0o777)
        with pytest.raises(ModelError, match=r"others may write what api\.cache keeps"):
            sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml")
        place.chmod(before)


def test_a_package_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    section = cfg.load(write_config(tmp_path, uri=str(tmp_path / "model"), format="spark")).model

    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 2, "", "noise\nerror: stage Foo cannot be converted\n")

    monkeypatch.setattr(sources.subprocess, "run", failing)
    with pytest.raises(ModelError, match=r"no package could be made of this model \(exit code 2\): stage Foo cannot be converted"):
        sources.packaged(section, tmp_path / "cache", source=tmp_path / "api.yaml")


def test_it_answers_takes_up_a_new_version_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    skops = pytest.importorskip("skops.io")
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
    skops.dump(LogisticRegression().fit(frame, [0, 0, 1, 1]), tmp_path / "model.skops")
    path = write_config(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["api"] = {"port": 0, "watch": "200 ms"}
    path.write_text(yaml.safe_dump(tree))
    body = json.dumps({"instance": {"a": 3, "b": 0}})
    with process(path) as started:
        assert started.stderr is not None
        line = next(each for each in started.stderr if "listens=" in each)
        with httpx.Client(base_url=line.split("listens=")[1].strip(), timeout=30, trust_env=False) as client:
            deadline = time.monotonic() + 60
            (answer,) = client.post("/v1/models/churn:predict", content=body).json()["predictions"]
            assert (answer["prediction"], answer["model_version"]) == (1.0, "1")
            tree["model"]["version"] = "2"
            path.write_text(yaml.safe_dump(tree))
            while client.get("/readyz").json()["models"] != {"churn": "2"}:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            started.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            assert client.post("/v1/models/churn:predict", content=body).json()["predictions"][0]["model_version"] == "2"
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
