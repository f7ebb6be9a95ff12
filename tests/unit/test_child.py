"""A model in a process of its own: the same answers, no secrets, and nothing that it does keeps the caller waiting for ever."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streaming.config.sections import Limits, SavedModel
from streaming.errors import ModelError
from streaming.scorers import child, files, wire
from streaming.scorers.base import Scores
from streaming.scorers.child import ChildScorer
from streaming.scorers.onnx import open_onnx

X = np.random.default_rng(0).normal(size=(64, 3))


def section(path: Path, kind: str, **limits: str) -> SavedModel:
    return SavedModel(name="m", version="1", format=kind, uri=str(path), limits=Limits(**limits))


def opened(path: Path, kind: str, **limits: str) -> ChildScorer:
    return child.open_scorer(files.read(str(path)), section(path, kind, **limits))


def onnx_model(path: Path, nodes: list[Any], *constants: Any) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", [x], [y], list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


def endless(path: Path) -> Path:
    """Loops for ever on a row of a number above zero, answers at once on any other."""
    value = helper.make_tensor_value_info
    again = helper.make_node("Identity", ["go"], ["go_on"])
    body = helper.make_graph(
        [again, helper.make_node("Identity", ["in"], ["out"])], "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("in", TensorProto.FLOAT, ["n", 1])],
        [value("go_on", TensorProto.BOOL, []), value("out", TensorProto.FLOAT, ["n", 1])],
    )  # fmt: skip
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["go_first"]),
        helper.make_node("Loop", ["", "go_first", "x"], ["y"], body=body),
    ]
    return onnx_model(path, nodes, zero)


def greedy(path: Path) -> Path:
    """Asks for 10^11 numbers on a row of a number above zero."""
    count = helper.make_tensor("count", TensorProto.FLOAT, [1], [1e11])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "count"], ["many"]),
        helper.make_node("Cast", ["many"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["filled"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])),
        helper.make_node("ReduceSum", ["filled"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return onnx_model(path, nodes, count)


def values(*rows: float) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.array(rows)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A third of each number."""
    third = helper.make_tensor("third", TensorProto.FLOAT, [], [1 / 3])
    return onnx_model(tmp_path_factory.mktemp("plain") / "m.onnx", [helper.make_node("Mul", ["x", "third"], ["y"])], third)


@pytest.fixture(scope="module")
def shared(plain: Path) -> ChildScorer:
    return opened(plain, "onnx")


def test_the_answers_are_those_of_the_reader_to_the_last_bit(plain: Path, shared: ChildScorer) -> None:
    here = open_onnx(plain)
    assert dict(shared.inputs()) == dict(here.inputs())
    assert shared.contributions({"x": X[:, 0]}) is None
    for x in (X[:, 0], X[:1, 0], X[:0, 0], np.array([1.0, np.nan, np.inf, 1e300])):
        ours, theirs = here.score({"x": x}), shared.score({"x": x})
        np.testing.assert_array_equal(ours.prediction, theirs.prediction)
        assert list(ours.error) == list(theirs.error)
    with pytest.raises(ModelError, match="no column 'x'"):
        shared.score({})


def test_the_process_knows_no_secret_and_ends_with_its_scorer(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "hunter2-in-the-environment")
    scorer = opened(plain, "onnx")
    running = scorer._process._running
    assert running is not None
    told = Path(f"/proc/{running.pid}/environ").read_bytes()
    assert b"hunter2" not in told
    assert b"PATH=" in told
    home = Path(f"/proc/{running.pid}/cwd").readlink()
    assert oct(home.stat().st_mode & 0o777) == "0o700"
    del scorer
    assert running.poll() is not None
    assert not home.exists()


def test_a_loop_without_end_ends_the_process_and_not_the_caller(tmp_path: Path) -> None:
    scorer = opened(endless(tmp_path / "m.onnx"), "onnx", score="2 seconds")
    assert scorer.score(values(-1.0)).prediction.tolist() == [-1.0]
    with pytest.raises(ModelError, match=r"had no answer within 2 seconds and was ended.*raise model\.limits"):
        scorer.score(values(1.0))
    assert scorer.score(values(-2.0)).prediction.tolist() == [-2.0]


def test_an_allocation_without_measure_ends_there(tmp_path: Path) -> None:
    scorer = opened(greedy(tmp_path / "m.onnx"), "onnx", memory="2 GiB")
    with pytest.raises(ModelError):
        scorer.score(values(1.0))
    assert scorer.score(values(0.0)).prediction.tolist() == [0.0]


def test_a_killed_process_is_started_again(plain: Path) -> None:
    scorer = opened(plain, "onnx")
    expected = scorer.score({"x": X[:, 0]}).prediction
    assert scorer._process._running is not None
    pid = scorer._process._running.pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, lambda: os.kill(pid, signal.SIGKILL)).start()
    with pytest.raises(ModelError, match="ended by signal 9 before it answered"):
        scorer.score({"x": X[:, 0]})
    np.testing.assert_array_equal(scorer.score({"x": X[:, 0]}).prediction, expected)


def test_threads_get_their_own_answers(plain: Path, shared: ChildScorer) -> None:
    expected = open_onnx(plain).score({"x": X[:, 0]}).prediction
    wrong: list[int] = []

    def ask(row: int) -> None:
        for _ in range(20):
            if shared.score({"x": X[row : row + 1, 0]}).prediction[0] != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_what_is_wrong_with_a_model_is_said_as_if_it_were_opened_here(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        opened(tmp_path / "m.onnx", "onnx")
    pinned = section(tmp_path / "m.onnx", "onnx").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ModelError, match="changed or tampered with"):
        child.open_scorer(files.read(str(tmp_path / "m.onnx")), pinned)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"arrays": [{}]}', b'{"arrays": [{"name": "a", "type": "|O", "shape": [1]}]}',
                                  b'{"arrays": [{"name": "a", "type": "<f8", "shape": [1000000]}]}', b'{"arrays": [{"name": "a", "type": "<f8", "shape": [-1]}]}'])  # fmt: skip
def test_an_answer_that_is_none_is_an_error_and_never_an_object(text: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        wire.scores_of(wire.unpack(text, b"12345678"))


def test_what_is_sent_comes_back() -> None:
    arrays = {
        "n": np.array([1.5, np.nan]),
        "t": np.array(["a", None], dtype=object),
        "v": np.zeros((2, 0)),
        "b": np.array([1, 2], np.uint8),
    }
    packed = wire.pack({"do": "score"}, arrays)
    first, second = wire.HEAD.unpack_from(packed)
    said, received = wire.unpack(packed[wire.HEAD.size :][:first], packed[wire.HEAD.size + first :][:second])
    assert said == {"do": "score"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)
    scores = Scores(np.array([1.0, np.nan]), np.array([[0.5, 0.5], [np.nan, np.nan]]), [None, "odd"])
    packed = wire.of_scores(scores)
    first, second = wire.HEAD.unpack_from(packed)
    again = wire.scores_of(wire.unpack(packed[wire.HEAD.size :][:first], packed[wire.HEAD.size + first :][:second]))
    np.testing.assert_array_equal(again.prediction, scores.prediction)
    assert list(again.error) == [None, "odd"]
