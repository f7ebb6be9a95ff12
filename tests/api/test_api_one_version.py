"""One version, one model: REST never answers with other files than the stream under the same version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from streaming import config as cfg
from streaming.api import sources
from streaming.api.served import Models, Served
from streaming.errors import ModelError
from streaming.runtime import model_versions
from streaming.runtime.files import LocalFolder
from tests.support.churn_models import churn
from tests.support.smallest import smallest


class Files:
    """A source whose version and files a test sets."""

    def __init__(self) -> None:
        self.served = replace(churn("1"), sha256="a" * 64)

    def mark(self) -> str:
        return str(self.served.sha256)

    def load(self) -> Served:
        return self.served


def test_changed_files_under_the_same_version_are_refused() -> None:
    source = Files()
    models = Models({"churn": source})
    source.served = replace(source.served, sha256="b" * 64)
    refused = models.refresh("churn")
    assert "changed under churn version 1" in str(refused.error)
    assert models.all()[0].sha256 == "a" * 64
    source.served = replace(source.served, version="2")
    assert models.refresh("churn").changed


def test_a_version_keeps_its_files_for_the_stream_and_for_rest_over_restarts(tmp_path: Path) -> None:
    state = LocalFolder(tmp_path / "state")

    def claim(version: str, letter: str) -> None:
        model_versions.claim(state, model="churn", version=version, sha256=letter * 64, uri="models/churn")

    claim("1", "a")
    claim("1", "a")
    assert model_versions.known(state, model="churn", version="1") == "a" * 64
    assert model_versions.known(state, model="churn", version="2") is None
    with pytest.raises(
        ModelError,
        match=r"models/churn: the files changed under churn version 1: .* set model.version to one that was never served \(now it is '1'\)",
    ):
        claim("1", "b")
    claim("2", "b")
    claim("../../1", "b")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["model_versions"]


def section(folder: Path, **model: object) -> cfg.Config:
    tree = smallest(folder, api={"package": str(folder / "package")})
    tree["model"] |= model
    (folder / "api.yaml").write_text(yaml.safe_dump(tree))
    (folder / "package").mkdir(exist_ok=True)
    return cfg.load(folder / "api.yaml")


def opened(folder: Path, made_of: str | None, monkeypatch: pytest.MonkeyPatch, *, of_version: str = "1", **model: object) -> str | None:
    config = section(folder, **model)
    manifest = {"version": of_version, "source": {"sha256": made_of}} if made_of else {}
    (folder / "package" / "MANIFEST.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(sources.child, "open_scorer", lambda *_: churn().scorer)
    return sources.open_scorer(config.model, config.api, source=folder / "api.yaml")[1]


def test_a_package_must_be_made_of_the_models_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(tmp_path, "a" * 64, monkeypatch, sha256="a" * 64) == "a" * 64
    for made_of in ("b" * 64, None):  # of other files; one that does not say
        with pytest.raises(ModelError, match=r"api.package: .*made of files with sha256 .* would answer differently"):
            opened(tmp_path, made_of, monkeypatch, sha256="a" * 64)
    with pytest.raises(ModelError, match=r"made of version 0, and model\.version is 1"):
        opened(tmp_path, "a" * 64, monkeypatch, of_version="0", sha256="a" * 64)
    assert opened(tmp_path, "a" * 64, monkeypatch) == "a" * 64  # the model is elsewhere, and nobody pinned it
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stage").write_text("1")
    with pytest.raises(ModelError, match="would answer differently"):
        opened(tmp_path, "a" * 64, monkeypatch)


def test_the_api_refuses_files_that_the_stream_served_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = section(tmp_path)
    model_versions.claim(LocalFolder(tmp_path / "state"), model="churn", version="1", sha256="a" * 64, uri="m")
    source = sources.ConfigSource(tmp_path / "api.yaml")
    source._claim(config, "a" * 64)
    with pytest.raises(ModelError, match="changed under churn version 1"):
        source._claim(config, "b" * 64)
