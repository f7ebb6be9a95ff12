"""A River state is a pickle: only River's own parts may come out of it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.online.algorithms import make
from streaming.online.river import load


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


@pytest.mark.parametrize("function", [os.system, eval, exec, open, __import__, np.load, np.testing.assert_equal], ids=lambda f: f.__name__)
def test_a_pickle_that_calls_anything_else_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="not part of a River model"):
        load(_bytes(pickle.dumps(_Runs(function, "true"))))


@pytest.mark.parametrize(
    ("owner", "name"), [("text", "format"), ({}, "__class__"), (make("river", {"model": "dummy.NoChangeClassifier"}), "init")]
)
def test_getattr_reaches_only_methods_of_river_classes(owner: Any, name: str) -> None:
    with pytest.raises(ValueError, match="not part of a River model"):
        load(_bytes(pickle.dumps(_Runs(getattr, owner, name))))


@pytest.mark.parametrize("name", ["__init__", "__reduce__", "__class__", "__dict__"])
def test_getattr_on_a_river_model_reaches_no_dunder(name: str) -> None:
    from river.linear_model import LogisticRegression

    with pytest.raises(ValueError, match="not part of a River model"):
        load(_bytes(pickle.dumps(_Runs(getattr, LogisticRegression(), name))))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("river.datasets.base", "os.remove"),  # a module that River's module imports
        ("river.base.base", "inspect.sys.modules"),
        ("river.datasets", "Phishing"),
        ("river.stream", "iter_csv"),
        ("river.bandit.datasets.news", "NewsArticles"),  # downloads, and writes wherever it is told to
        ("river.bandit.datasets", "NewsArticles.download"),
        ("river.bandit.datasets.base", "BanditDataset"),
        ("river.bandit.envs.testbed", "KArmedTestbed"),
        ("river.time_series.evaluate", "evaluate"),
        ("river.linear_model", "LogisticRegression.__init__.__globals__"),
        ("river.linear_model.log_reg", "LogisticRegression.__reduce__"),
        ("river.evaluate", "progressive_val_score"),
        ("builtins", "eval"),
        ("riverside", "anything"),
    ],
)
def test_a_way_round_through_river_is_refused(module: str, name: str) -> None:
    text = b"\x80\x04" + pickle.SHORT_BINUNICODE + bytes([len(module)]) + module.encode()
    text += pickle.SHORT_BINUNICODE + bytes([len(name)]) + name.encode() + pickle.STACK_GLOBAL + b"."
    with pytest.raises(ValueError, match="river: the state cannot be opened"):
        load(_bytes(text))


@pytest.mark.parametrize(
    "model",
    [
        "linear_model.LogisticRegression", "linear_model.LinearRegression", "linear_model.PAClassifier", "linear_model.BayesianLinearRegression",
        "tree.HoeffdingTreeClassifier", "tree.HoeffdingAdaptiveTreeRegressor", "forest.ARFClassifier", "forest.ARFRegressor",
        "neighbors.KNNRegressor", "naive_bayes.GaussianNB", "tree.SGTRegressor", "dummy.NoChangeClassifier",
    ],
)  # fmt: skip
def test_common_river_models_come_back_from_their_state(model: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    learner = make("river", {"model": model})
    y = (X[:, 0] > 0).astype(float) if learner.classes else X[:, 0]
    state = learner.update(learner.init(3), learner.summarize(learner.init(3), X, y))
    again = learner.update(learner.init(3), learner.summarize(learner.init(3), X, y))
    assert np.isfinite(learner.predict(state, X)).all()
    np.testing.assert_allclose(learner.predict(state, X), learner.predict(again, X))


def test_a_bound_method_is_one_that_river_wrote() -> None:
    """A River class may inherit from a container of Python's, whose methods River has not written."""
    from river.utils import VectorDict

    with pytest.raises(ValueError, match="not part of a River model"):
        load(_bytes(pickle.dumps(_Runs(getattr, VectorDict({"a": 1.0}), "items"))))


def test_news_articles_neither_exist_nor_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack as it was seen: a state that makes the data set, and calls its download through a bound method."""
    from river.bandit.datasets import NewsArticles
    from river.datasets.base import RemoteDataset

    called: list[Any] = []
    monkeypatch.setattr(RemoteDataset, "download", lambda self, *arguments, **named: called.append(self))
    news = NewsArticles.__new__(NewsArticles)
    news.url, news.filename = "http://127.0.0.1:9/evil.zip", str(tmp_path / "evil")
    with pytest.raises(ValueError, match="river: the state cannot be opened"):
        load(_bytes(pickle.dumps(news)))

    class Deep:
        def __reduce__(self) -> Any:
            return news.download, (True,)

    with pytest.raises(ValueError, match="river: the state cannot be opened"):
        load(_bytes(pickle.dumps(Deep())))
    assert not called
    assert not list(tmp_path.iterdir())
