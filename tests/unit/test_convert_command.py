"""The subcommands `convert` and `package`, on a model that needs no Spark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skops.io
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression

from streaming.cli.convert import convert, package
from streaming.errors import ConfigError, ModelError
from streaming.scorers.onnx import open_onnx

X = np.random.default_rng(0).normal(size=(100, 2))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "line.skops"
    skops.io.dump(LinearRegression().fit(X, X @ [1.0, -2.0]), path)
    return path


def test_convert_writes_one_file_and_says_how_it_compares(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"features": row.tolist()}) for row in X))
    out = tmp_path / "line.onnx"
    done = CliRunner().invoke(
        convert,
        [str(model), "--format", "sklearn", "--to", "onnx", "--out", str(out), "--data", str(tmp_path / "rows.jsonl")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "parity: 10000 rows" in done.output
    assert "parity: 100 rows, 0 of them rejected" in done.output
    np.testing.assert_allclose(open_onnx(out).score({"features": X}).prediction, X @ [1.0, -2.0], atol=1e-12)


def test_package_takes_a_configuration(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(f"""
name: job
kafka: {{bootstrap_servers: "localhost:9092"}}
events: {{topic: e, schema: "k STRING, features ARRAY<DOUBLE>", key: k}}
model: {{name: line, version: "7", format: sklearn, uri: {model}}}
predictions: {{topic: p, rejected_topic: r}}
store: {{kind: sqlite, path: {tmp_path}/p.db}}
state: {tmp_path}/state
""")
    done = CliRunner().invoke(package, [str(config), "--out", str(tmp_path / "package")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "line 7 is packaged" in done.output
    manifest = json.loads((tmp_path / "package" / "MANIFEST.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("line", "7")


def test_refusals_are_errors_of_this_project(model: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> None:
        CliRunner().invoke(convert, [*arguments, "--to", "onnx", "--out", str(tmp_path / "x.onnx")], catch_exceptions=False)

    with pytest.raises(ModelError, match="changed or tampered"):
        run(str(model), "--format", "sklearn", "--sha256", "0" * 64)
    with pytest.raises(ConfigError, match="64 hex digits"):
        run(str(model), "--format", "sklearn", "--sha256", "short")
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.parquet"):
        run(str(model), "--format", "sklearn", "--data", str(tmp_path / "rows.xls"))
    with pytest.raises(ModelError, match="no such model"):
        run(str(tmp_path / "nothing.skops"), "--format", "sklearn")
    assert not (tmp_path / "x.onnx").exists()
