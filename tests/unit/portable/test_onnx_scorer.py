"""Any .onnx file as a Scorer: types, shapes, labels and probabilities as the exporters write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression

from streaming.config.sections import SavedModel
from streaming.convert import package
from streaming.errors import ModelError
from streaming.scorers.base import Scorer
from streaming.scorers.onnx import OnnxScorer, PackageScorer, open_onnx

X = np.random.default_rng(0).normal(size=(200, 3))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


def info(name: str, kind: int, shape: Sequence[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *, opset: int = 19) -> Path:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=9)
    onnx.save(made, path)
    return path


def regression(tmp_path: Path) -> Path:
    path = tmp_path / "regression.onnx"
    path.write_bytes(to_onnx(LinearRegression().fit(X, X[:, 0] * 2), X[:1], target_opset=19).SerializeToString())
    return path


def test_a_matrix_of_doubles(tmp_path: Path) -> None:
    scorer = open_onnx(regression(tmp_path))
    assert isinstance(scorer, Scorer)
    assert list(scorer.inputs().values()) == ["vector"]
    name = next(iter(scorer.inputs()))
    scores = scorer.score({name: X, "other": X[:, 0]})
    np.testing.assert_allclose(scores.prediction, X[:, 0] * 2, atol=1e-12)
    assert scores.probability is None
    assert list(scores.error) == [None] * 200


def test_a_row_that_cannot_be_scored_is_an_error_of_that_row_alone(tmp_path: Path) -> None:
    scorer = open_onnx(regression(tmp_path))
    broken = X.copy()
    broken[3, 1] = np.nan
    scores = scorer.score({"X": broken})
    assert scores.error[3] == "the prediction is NaN or infinite"
    assert np.isnan(scores.prediction[3])
    assert [said for i, said in enumerate(scores.error) if i != 3] == [None] * 199


def test_zero_rows(tmp_path: Path) -> None:
    scores = open_onnx(regression(tmp_path)).score({"X": X[:0]})
    assert (scores.prediction.shape, list(scores.error)) == ((0,), [])


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", [("no", "yes"), (10, 20)])
def test_labels_become_the_indexes_of_their_classes(tmp_path: Path, zipmap: bool, labels: tuple[Any, Any]) -> None:
    fitted = LogisticRegression().fit(X, np.array(labels)[Y])
    example = X[:1].astype(np.float32) if zipmap else X[:1]  # ZipMap takes nothing but float
    made = to_onnx(fitted, example, target_opset=19, options={id(fitted): {"zipmap": zipmap}})
    if not zipmap:
        named = made.metadata_props.add()
        named.key, named.value = "classes", json.dumps(labels)
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    scores = open_onnx(path).score({"X": X})
    expected = fitted.predict_proba(X)
    np.testing.assert_array_equal(scores.prediction, expected.argmax(axis=1))
    assert scores.probability is not None
    np.testing.assert_allclose(scores.probability, expected, atol=1e-6)


def test_text_labels_without_their_classes_are_refused(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(X, np.array(["no", "yes"])[Y])
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(fitted, X[:1], target_opset=19, options={id(fitted): {"zipmap": False}}).SerializeToString())
    with pytest.raises(ModelError, match="does not say which classes there are"):
        open_onnx(path).score({"X": X})


def mixed(tmp_path: Path) -> Path:
    """prediction = whole + real + (1 if text == "yes") + flag"""
    double = {"to": TensorProto.DOUBLE}
    nodes = [
        helper.make_node("Cast", ["whole"], ["a"], **double),
        helper.make_node("Cast", ["real"], ["b"], **double),
        helper.make_node(
            "LabelEncoder", ["text"], ["t"], domain="ai.onnx.ml", keys_strings=["yes"], values_floats=[1.0], default_float=0.0
        ),
        helper.make_node("Cast", ["t"], ["c"], **double),
        helper.make_node("Cast", ["flag"], ["d"], **double),
        helper.make_node("Sum", ["a", "b", "c", "d"], ["prediction"]),
    ]
    kinds = {"whole": TensorProto.INT64, "real": TensorProto.FLOAT, "text": TensorProto.STRING, "flag": TensorProto.BOOL}
    inputs = [info(name, kind, ["n", 1]) for name, kind in kinds.items()]
    return save(tmp_path / "mixed.onnx", nodes, inputs, [info("prediction", TensorProto.DOUBLE, ["n", 1])])


COLUMNS = {
    "whole": np.array([1.0, np.nan, 2.5, 4.0, 5.0, 1e30]),
    "real": np.array([0.5, 0.5, 0.5, 1e300, np.nan, 0.5]),
    "text": np.array(["yes", "no", "yes", "yes", None, "no"], dtype=object),
    "flag": np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
}


def test_inputs_of_every_type_and_what_cannot_be_read_as_them(tmp_path: Path) -> None:
    scorer = open_onnx(mixed(tmp_path))
    assert dict(scorer.inputs()) == {"whole": "number", "real": "number", "text": "text", "flag": "number"}
    scores = scorer.score(COLUMNS)
    assert scores.prediction[0] == 3.5
    assert list(scores.error) == [
        None,
        "whole is null or cannot be read as int64",
        "whole is null or cannot be read as int64",
        "real is null or cannot be read as float",
        "text is null or cannot be read as string",
        "whole is null or cannot be read as int64",
    ]


def test_a_bare_model_can_be_packaged_and_answers_the_same(tmp_path: Path) -> None:
    path = mixed(tmp_path)
    section = SavedModel(name="mixed", version="1", format="onnx", uri=str(path))
    packaged = open_onnx(package.build(section, None, tmp_path / "package"))
    assert isinstance(packaged, PackageScorer)
    ours, theirs = packaged.score(COLUMNS), open_onnx(path).score(COLUMNS)
    np.testing.assert_array_equal(ours.prediction, theirs.prediction)
    assert [bool(said) for said in ours.error] == [bool(said) for said in theirs.error]


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    scorer = open_onnx(mixed(tmp_path))
    with pytest.raises(ModelError, match="no column 'text'"):
        scorer.score({name: values for name, values in COLUMNS.items() if name != "text"})
    with pytest.raises(ModelError, match="column 'real': expected number, got object"):
        scorer.score({**COLUMNS, "real": COLUMNS["text"]})


def test_an_opset_from_the_future_and_broken_files_are_refused(tmp_path: Path) -> None:
    future = save(
        tmp_path / "future.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [info("x", TensorProto.DOUBLE, ["n", 2])],
        [info("y", TensorProto.DOUBLE, ["n", 2])],
        opset=999,
    )
    with pytest.raises(ModelError, match="not an ONNX model that onnxruntime"):
        open_onnx(future)
    (tmp_path / "broken.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="not an ONNX model"):
        open_onnx(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match="no such model"):
        open_onnx(tmp_path / "missing.onnx")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="changed or tampered with"):
        open_onnx(regression(tmp_path), sha256="0" * 64)


def test_the_files_may_go_after_opening(tmp_path: Path) -> None:
    path = regression(tmp_path)
    scorer = open_onnx(path)
    path.unlink()
    assert isinstance(scorer, OnnxScorer)
    assert len(scorer.score({"X": X}).prediction) == 200
