"""The fingerprint changes with every byte and every name, and with nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from streaming.errors import ModelError
from streaming.models import manifest
from streaming.scorers import files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"metadata/part-00000": "{}", "data/a b%20ü": "one", "data/b": "two", "_SUCCESS": "", "data/.b.crc": "x"}.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "model"


def test_fingerprint_is_the_hash_that_its_docstring_says(folder: Path, spark: SparkSession) -> None:
    total = hashlib.sha256()
    for name in ("data/a b%20ü", "data/b", "metadata/part-00000"):
        total.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    assert manifest.fingerprint(spark, str(folder)) == total.hexdigest()
    assert manifest.fingerprint(spark, f"file:{folder}") == total.hexdigest()
    assert manifest.fingerprint(spark, f"file://{folder}/") == total.hexdigest()


def test_every_byte_and_every_name_counts_and_marks_do_not(folder: Path, spark: SparkSession) -> None:
    seen = [manifest.fingerprint(spark, str(folder))]
    (folder / "_SUCCESS").unlink()
    (folder / "data" / ".b.crc").unlink()
    assert manifest.fingerprint(spark, str(folder)) == seen[0]
    (folder / "data" / "b").write_text("twp")
    seen.append(manifest.fingerprint(spark, str(folder)))
    (folder / "data" / "b").rename(folder / "data" / "c")
    seen.append(manifest.fingerprint(spark, str(folder)))
    (folder / "data" / "empty").write_text("")
    seen.append(manifest.fingerprint(spark, str(folder)))
    assert len(set(seen)) == 4


def test_manifest_comes_back_and_what_it_says_counts(folder: Path, spark: SparkSession) -> None:
    assert manifest.read(spark, str(folder)) is None
    sha256 = manifest.write(spark, str(folder), {"name": "churn", "metrics": {"auc": 0.9}})
    assert manifest.read(spark, str(folder)) == {"name": "churn", "metrics": {"auc": 0.9}, "sha256": sha256, "format_version": 2}
    assert sha256 == manifest.fingerprint(spark, str(folder)) == files.read(str(folder)).sha256
    assert manifest.write(spark, str(folder), {}) == manifest.fingerprint(spark, str(folder)) != sha256


def test_a_large_file_comes_in_pieces(folder: Path, spark: SparkSession) -> None:
    (folder / "data" / "b").write_bytes(bytes(range(256)) * 40_000)
    assert manifest.content(spark, f"{folder}/data/b") == bytes(range(256)) * 40_000


def test_what_cannot_be_read_is_said(folder: Path, spark: SparkSession) -> None:
    for text in ("{", "[]"):
        (folder / "MANIFEST.json").write_text(text)
        with pytest.raises(ModelError, match=r"MANIFEST\.json: .*delete this file"):
            manifest.read(spark, str(folder))
    with pytest.raises(ModelError, match="no such model"):
        manifest.write(spark, f"{folder}/none", {})
    with pytest.raises(ModelError, match="a file; expected the folder"):
        manifest.fingerprint(spark, f"{folder}/data/b")
