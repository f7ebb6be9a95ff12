"""Model files that attack whoever opens them without Spark. What counts is that nothing was read, written or run."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.cluster import FeatureAgglomeration
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.scorers import files, mlflow, onnx_parts
from streaming.scorers.files import Package
from streaming.scorers.onnx import open_onnx
from streaming.scorers.sklearn import open_sklearn

X = np.arange(24.0).reshape(8, 3)
Y = np.array([0, 1] * 4)


def dumped(estimator: Any, path: Path) -> Package:
    skops.io.dump(estimator, path / "m.skops")
    return files.read(str(path / "m.skops"))


@pytest.mark.parametrize("kind", ["filename", "file"])
@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer, HashingVectorizer])
def test_an_event_cannot_name_a_file_that_is_read(vectorizer: Any, kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2 hunter2")
    made = make_pipeline(vectorizer(), LogisticRegression()).fit(["hunter2", "other"] * 4, Y)
    made.steps[0][1].input = kind
    with pytest.raises(ModelError, match=rf"{vectorizer.__name__}\(input='{kind}'\) opens the files that events name"):
        open_sklearn(dumped(made, tmp_path), allow=["numpy.dtype"])


def test_a_parameter_is_found_however_deep_it_lies(tmp_path: Path) -> None:
    inner = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["hunter2", "other"] * 4, Y)
    voting = VotingClassifier([("inner", inner)]).fit(["hunter2", "other"] * 4, Y)
    voting.estimators_[0].steps[0][1].input = "filename"
    with pytest.raises(ModelError, match="opens the files that events name"):
        open_sklearn(dumped(voting, tmp_path), allow=["numpy.dtype", "sklearn.utils._bunch.Bunch"])


def test_a_model_names_no_folder_of_pickles(tmp_path: Path) -> None:
    piped = make_pipeline(LinearRegression(), memory=str(tmp_path / "cache")).fit(X, Y)
    with pytest.raises(ModelError, match=r"Pipeline\(memory=\.\.\.\) keeps files"):
        open_sklearn(dumped(piped, tmp_path))
    clustered = make_pipeline(FeatureAgglomeration(memory=str(tmp_path / "cache")), LinearRegression()).fit(X, Y)
    with pytest.raises(ModelError, match=r"FeatureAgglomeration\(memory=\.\.\.\) keeps files"):
        open_sklearn(dumped(clustered, tmp_path), allow=["numpy.mean"])


def test_trust_without_a_sha256_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap()))
    package = files.read(str(tmp_path / "m.pkl"))
    with pytest.raises(ModelError, match=r"model\.trust: true without model\.sha256"):
        open_sklearn(package.verified(None), trust=True)
    folder = tmp_path / "mlflow"
    folder.mkdir()
    (folder / "m.pkl").write_bytes((tmp_path / "m.pkl").read_bytes())
    (folder / "MLmodel").write_text("flavors: {sklearn: {pickled_model: m.pkl}}")
    section = SavedModel(name="m", version="1", format="mlflow", uri=str(folder), trust=True)
    with pytest.raises(ModelError, match=r"model\.trust: true without model\.sha256"):
        mlflow.open_scorer(files.read(str(folder)), section)
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: os, data: m.pkl}}")
    with pytest.raises(ModelError, match=r"model\.trust: true without model\.sha256"):
        mlflow.open_scorer(files.read(str(folder)), section)
    assert not (tmp_path / "sprung").exists()


def test_what_was_pinned_stays_pinned_inside_a_folder(tmp_path: Path) -> None:
    joblib.dump(LinearRegression().fit(X, Y), tmp_path / "m.joblib")
    (tmp_path / "MLmodel").write_text("flavors: {sklearn: {pickled_model: m.joblib}}")
    package = files.read(str(tmp_path))
    section = SavedModel(name="m", version="1", format="mlflow", uri=str(tmp_path), trust=True, sha256=package.sha256)
    assert mlflow.open_scorer(package, section).inputs() == {"features": "vector"}


def weighted(path: Path, **place: str) -> bytes:
    """A model with one tensor, `w`, that lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", **place}.items():
        tensor.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", k]) for name, k in (("x", 3), ("y", 1)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    (path / "m.onnx").write_bytes(content)
    return content


def test_an_onnx_model_reads_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the working directory would become the weights, and answers would say what stands there."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "w.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    monkeypatch.chdir(work)
    weighted(tmp_path)
    with pytest.raises(ModelError, match="the tensor 'w' lies in another file"):
        open_onnx(tmp_path / "m.onnx")


def test_an_external_tensor_is_found_wherever_it_hides(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(weighted(tmp_path))
    (outer,) = model.graph.initializer
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outer)], "inner", [], [])
    model.graph.ClearField("initializer")
    hidden = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for place in ("graph", "function", "sparse"):
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.graph.ClearField("node")
        if place == "graph":
            changed.graph.node.append(hidden)
        elif place == "function":
            changed.functions.add(name="f").node.append(hidden)
        else:
            changed.graph.sparse_initializer.add().values.CopyFrom(outer)
        with pytest.raises(ModelError, match="lies in another file"):
            onnx_parts.check("m", changed.SerializeToString())


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a//b", "./a", "a\\..\\b", "a\0b", ""])
def test_a_file_of_a_package_lands_inside_its_folder(name: str, tmp_path: Path) -> None:
    package = Package("m", {name: b"evil", "ok": b""}, True)
    with pytest.raises(ModelError, match="leads out of the model's folder"), package.on_disk():
        pytest.fail("it was written")
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil").exists()


def test_what_is_not_counted_is_not_read(tmp_path: Path) -> None:
    """A file that decides nothing in the fingerprint decides nothing in the model."""
    (tmp_path / "MLmodel").write_text("flavors: {onnx: {data: m.onnx}}")
    before = files.read(str(tmp_path)).sha256
    for name in ("_SUCCESS", ".part.crc", "sub/_SUCCESS", "sub/.x.crc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    package = files.read(str(tmp_path))
    assert package.sha256 == before
    assert list(package.files) == ["MLmodel"]
    (tmp_path / "data.crc").write_bytes(b"read by whoever lists the folder")
    assert files.read(str(tmp_path)).sha256 != before


DEEP = "[" * 100_000


def test_deep_nesting_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(DEEP)
    with pytest.raises(ModelError, match="not a description of an MLflow model"):
        mlflow.open_mlflow(files.read(str(tmp_path)))
    (tmp_path / "MLmodel").write_text(f"flavors: {{onnx: {{}}}}\nsignature: {{inputs: '{DEEP}'}}")
    with pytest.raises(ModelError, match="not a description of an MLflow model"):
        mlflow.open_mlflow(files.read(str(tmp_path)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("schema.json", json.dumps({"protocol": 2, "deep": None}).replace("null", DEEP))
    with pytest.raises(ModelError, match="cannot be opened"):
        open_sklearn(Package("m", {"m.skops": packed.getvalue()}, False))


def test_metadata_of_an_onnx_model_that_cannot_be_read_is_a_model_error(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    for key, value in (
        ("streaming.manifest", DEEP),
        ("streaming.manifest", "{}"),
        ("streaming.manifest", '{"inputs": 3}'),
        ("classes", DEEP),
    ):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        model.metadata_props.add(key=key, value=value)
        with pytest.raises(ModelError):
            open_onnx_bytes(model.SerializeToString(), tmp_path)


def open_onnx_bytes(content: bytes, path: Path) -> Any:
    (path / "m.onnx").write_bytes(content)
    return open_onnx(path / "m.onnx")
