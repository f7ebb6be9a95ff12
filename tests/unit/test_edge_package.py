"""A package scores in a Python that has NumPy and onnxruntime and nothing else: no Spark, no Java, none of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from streaming.config.sections import SavedModel
from streaming.convert import package
from streaming.errors import ModelError
from streaming.scorers import columns
from streaming.scorers.onnx import PackageScorer, open_onnx

ROWS: list[dict[str, Any]] = [
    {"contract": "month", "tenure": 3, "charges": 80.5},
    {"contract": "year", "tenure": 60, "charges": 20.0, "more": "ignored"},
    {"contract": "never seen", "tenure": 10.5, "charges": None},
    {"contract": "two", "tenure": None},
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scikit-learn pipeline with text, missing numbers and unseen categories."""
    rng = np.random.default_rng(1)
    n = 300
    data = pd.DataFrame({
        "contract": rng.choice(np.array(["month", "year", "two"], dtype=object), n),
        "tenure": rng.integers(0, 72, n).astype(float),
        "charges": rng.normal(60, 20, n),
    })  # fmt: skip
    label = np.where((data.contract == "month") & (data.tenure < 40), "leaves", "stays")
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    prepared = ColumnTransformer(
        [("text", OneHotEncoder(handle_unknown="ignore"), ["contract"]), ("numbers", numbers, ["tenure", "charges"])]
    )
    path = tmp_path_factory.mktemp("sklearn") / "churn.skops"
    skops.io.dump(make_pipeline(prepared, LogisticRegression()).fit(data, label), path)
    return path


def section(path: Path) -> SavedModel:
    return SavedModel(name="churn", version="3", format="sklearn", uri=str(path), allow_classes=("numpy.dtype",))


@pytest.fixture(scope="module")
def packaged(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build(section(saved), None, tmp_path_factory.mktemp("packages") / "churn")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a machine with the packages of requirements.txt alone."""
    site = tmp_path_factory.mktemp("site")
    for name in ("numpy", "onnxruntime", "protobuf", "flatbuffers", "packaging"):
        for top in {Path(str(file)).parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    return {"PYTHONPATH": str(site), "PATH": str(site / "nothing"), "LC_ALL": "C.UTF-8"}


def run(arguments: Sequence[str], bare: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    # -S: without the site-packages of this environment.
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        env=dict(bare),
        cwd=bare["PYTHONPATH"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_bare_environment_is_bare(bare: Mapping[str, str]) -> None:
    for name in ("pyspark", "sklearn", "onnx", "pandas", "streaming"):
        done = run(["-c", f"import {name}"], bare)
        assert "ModuleNotFoundError" in done.stderr
    assert run(["-c", "import shutil, sys; sys.exit(shutil.which('java') is not None)"], bare).returncode == 0


def test_a_package_has_all_it_needs(packaged: Path) -> None:
    assert sorted(file.name for file in packaged.iterdir()) == ["MANIFEST.json", "README.md", "model.onnx", "requirements.txt", "scorer.py"]
    manifest = json.loads((packaged / "MANIFEST.json").read_text())
    assert manifest["classes"] == ["leaves", "stays"]
    assert [(column["name"], column["kind"]) for column in manifest["inputs"]] == [
        ("contract", "text"),
        ("tenure", "number"),
        ("charges", "number"),
    ]
    assert {line.split("==")[0] for line in (packaged / "requirements.txt").read_text().split()} == {"numpy", "onnxruntime"}


def test_the_packaged_scorer_gives_the_answers_of_the_original(packaged: Path, saved: Path, bare: Mapping[str, str]) -> None:
    lines = [json.dumps(row) for row in ROWS] + ['{"contract": "month", "tenure": "ten"}', "no JSON"]
    done = run([str(packaged / "scorer.py")], bare, "\n".join(lines))
    assert (done.returncode, done.stderr) == (0, "")
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    estimator = skops.io.load(saved, trusted=["numpy.dtype"])
    frame = pd.DataFrame([{name: row.get(name) for name in ("contract", "tenure", "charges")} for row in ROWS]).astype(
        {"tenure": float, "charges": float}
    )
    np.testing.assert_allclose([reply["probability"] for reply in replies[:4]], estimator.predict_proba(frame), atol=1e-12)
    assert [reply["label"] for reply in replies[:4]] == list(estimator.predict(frame))
    assert [reply["error"] for reply in replies[:4]] == [None] * 4
    assert replies[4] == {"prediction": None, "probability": None, "error": "tenure: expected a number, got str"}
    assert replies[5]["error"] == "expected a JSON object"


def test_a_changed_model_is_refused_by_name(packaged: Path, bare: Mapping[str, str], tmp_path: Path) -> None:
    for file in packaged.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "model.onnx").open("ab") as model:
        model.write(b"\0")
    done = run([str(tmp_path / "scorer.py")], bare, "{}")
    assert done.returncode == 2
    assert "model.onnx was changed" in done.stderr
    with pytest.raises(ModelError, match="changed or tampered"):
        open_onnx(tmp_path)


def test_the_service_opens_a_package_and_the_lone_file_alike(packaged: Path) -> None:
    folder, file = open_onnx(packaged), open_onnx(packaged / "model.onnx")
    assert isinstance(folder, PackageScorer)
    assert isinstance(file, PackageScorer)
    asked = columns.from_rows(ROWS, folder.inputs())
    np.testing.assert_array_equal(folder.score(asked).prediction, file.score(asked).prediction)
    assert folder.categories() == {"contract": ["month", "two", "year"]}
    assert folder.contributions(asked) is None


def test_a_package_is_never_overwritten_and_leaves_nothing_behind(saved: Path, packaged: Path) -> None:
    with pytest.raises(ModelError, match="exists"):
        package.build(section(saved), None, packaged)
    assert [path.name for path in packaged.parent.iterdir()] == ["churn"]
