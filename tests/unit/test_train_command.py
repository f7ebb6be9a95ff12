"""The command `streaming train`: what it says of the version it was given."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from streaming.cli.train import train
from streaming.runtime import model_versions, session
from streaming.runtime.files import LocalFolder
from streaming.training import run
from streaming.training.run import TrainingReport
from tests.support.smallest import smallest


def trained(folder: Path, patch: pytest.MonkeyPatch, sha256: str) -> str:
    """What the command prints when the training makes files with this sha256."""
    (folder / "job.yaml").write_text(yaml.safe_dump(smallest(folder, train={"data": "t.parquet", "label": "churn"})))
    report = TrainingReport("churn", "1", "naive_bayes", str(folder / "model"), sha256, 9, 0, 7, 2, {}, {}, 1.0)
    patch.setattr(session, "running", lambda *_, **__: nullcontext(None))
    patch.setattr(run, "train", lambda *_, **__: report)
    return CliRunner().invoke(train, [str(folder / "job.yaml"), "--overwrite"], catch_exceptions=False).output


def test_other_files_under_a_version_that_was_served_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "!" not in trained(tmp_path, monkeypatch, "a" * 64)
    state = LocalFolder(tmp_path / "state")
    model_versions.claim(state, model="churn", version="1", sha256="a" * 64, uri="models/churn")
    assert "!" not in trained(tmp_path, monkeypatch, "a" * 64)
    said = trained(tmp_path, monkeypatch, "b" * 64)
    assert "! version 1 was served with other files, so these are refused under it: set model.version in " in said
    assert "to one that was never served, then restart the job" in said
