"""Saved scikit-learn models without Spark: what they read, which rows they refuse, and files that are refused themselves."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from streaming.errors import ModelError
from streaming.scorers import files, mlflow
from streaming.scorers.base import Scorer
from streaming.scorers.sklearn import SklearnScorer, open_sklearn

N = 90
TABLE = pd.DataFrame(
    {
        "contract": ["month", "year", "two"] * (N // 3),
        "tenure": np.arange(N) % 72,
        "charges": np.arange(N) * 0.7,
        "note": ["slow line", "fine"] * (N // 2),
    }
)
LABEL = np.array(["stays", "leaves"])[(TABLE.tenure < 24).astype(int)]


def fitted(last: Any = None, *, invalid: str = "error") -> Pipeline:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown=invalid))
    prepare = ColumnTransformer(
        [("t", texts, ["contract"]), ("n", numbers, ["tenure"]), ("w", CountVectorizer(), "note")], remainder="passthrough"
    )
    return Pipeline([("prepare", prepare), ("last", LogisticRegression() if last is None else last)]).fit(TABLE, LABEL)


#: SimpleImputer and CountVectorizer keep one; skops wants it named.
ALLOWED = ("numpy.dtype",)


def saved(estimator: Any, path: Path) -> SklearnScorer:
    skops.io.dump(estimator, path / "m.skops")
    return open_sklearn(files.read(str(path / "m.skops")), allow=ALLOWED)


def columns(table: pd.DataFrame = TABLE) -> dict[str, np.ndarray[Any, Any]]:
    return {name: table[name].to_numpy(dtype=object if name in {"contract", "note"} else float) for name in table.columns}


def test_kinds_come_from_the_fitted_encoders(tmp_path: Path) -> None:
    scorer = saved(fitted(), tmp_path)
    assert isinstance(scorer, Scorer)
    assert scorer.inputs() == {"contract": "text", "tenure": "number", "charges": "number", "note": "text"}


def test_numeric_categories_are_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"zone": [1, 2, 3] * 5, "x": np.arange(15.0)})
    prepare = ColumnTransformer([("z", OrdinalEncoder(), ["zone"])], remainder="passthrough")
    scorer = saved(make_pipeline(prepare, LinearRegression()).fit(table, table.x), tmp_path)
    assert scorer.inputs() == {"zone": "number", "x": "number"}


def test_same_answers_as_the_estimator(tmp_path: Path) -> None:
    estimator = fitted()
    got = saved(estimator, tmp_path).score(columns())
    assert got.error == [None] * N
    assert got.probability is not None
    np.testing.assert_allclose(got.probability, estimator.predict_proba(TABLE), atol=1e-12)
    assert [estimator.classes_[int(index)] for index in got.prediction] == list(estimator.predict(TABLE))


@pytest.mark.parametrize("size", [1, 2, 7, 33])
def test_a_row_has_the_same_bits_alone_and_among_others(size: int, tmp_path: Path) -> None:
    scorer = saved(fitted(), tmp_path)
    together, alone = scorer.score(columns()), scorer.score(columns(TABLE.iloc[3 : 3 + size]))
    assert together.probability is not None
    assert alone.probability is not None
    assert np.array_equal(together.probability[3 : 3 + size], alone.probability)


def test_only_bad_rows_get_an_error_and_few_calls_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = saved(fitted(), tmp_path)
    table = pd.concat([TABLE] * 10, ignore_index=True)
    expected = scorer.score(columns(table))
    values, calls = columns(table), []
    real = SklearnScorer._answer
    monkeypatch.setattr(SklearnScorer, "_answer", lambda self, rows: (calls.append(len(rows)), real(self, rows))[1])
    values["contract"][::2] = "nobody's secret"
    values["charges"][::3] = np.nan
    values["note"][5] = None
    got = scorer.score(values)
    bad = {*range(0, len(table), 2), *range(0, len(table), 3), 5}
    assert {row for row, error in enumerate(got.error) if error} == bad
    assert len(calls) < 40
    assert not any("secret" in error for error in got.error if error)
    assert got.error[2] == "Pipeline: contract has a value that the model has never seen"
    assert got.error[0] == "Pipeline: contract has a value that the model has never seen; charges is null or NaN"
    assert got.error[5] == "Pipeline: note is null or NaN"
    kept = [row for row in range(len(table)) if row not in bad]
    assert np.array_equal(got.prediction[kept], expected.prediction[kept])
    assert np.isnan(got.prediction[list(bad)]).all()


def test_null_text_is_filled_in_where_the_model_does_that(tmp_path: Path) -> None:
    values = columns(TABLE.iloc[:3])
    values["contract"][0] = None
    assert saved(fitted(), tmp_path).score(values).error == [None] * 3


def test_zero_rows(tmp_path: Path) -> None:
    got = saved(fitted(), tmp_path).score(columns(TABLE.iloc[:0]))
    assert len(got.prediction) == 0
    assert list(got.error) == []


def test_a_model_of_a_plain_matrix_reads_one_vector(tmp_path: Path) -> None:
    matrix = TABLE[["tenure", "charges"]].to_numpy(dtype=float)
    scorer = saved(LinearRegression().fit(matrix, matrix[:, 0]), tmp_path)
    assert scorer.inputs() == {"features": "vector"}
    np.testing.assert_allclose(scorer.score({"features": matrix}).prediction, matrix[:, 0], atol=1e-9)
    assert scorer.score({"features": np.ones((2, 3))}).error == ["features has 3 numbers; the model reads 2"] * 2
    odd = scorer.score({"features": np.array([[1.0, np.nan], [1.0, 2.0]])})
    assert odd.error == ["LinearRegression: features is null or NaN", None]


def test_missing_and_other_columns(tmp_path: Path) -> None:
    scorer = saved(fitted(), tmp_path)
    with pytest.raises(ModelError, match="no column 'tenure'"):
        scorer.score({name: values for name, values in columns().items() if name != "tenure"})
    with pytest.raises(ModelError, match="column 'tenure': expected number"):
        scorer.score({**columns(), "tenure": columns()["contract"]})


def test_types_that_skops_does_not_trust_are_named(tmp_path: Path) -> None:
    forest = fitted(RandomForestClassifier(n_estimators=2, n_jobs=2))
    with pytest.raises(ModelError, match=r"sklearn\.tree\._tree\.Tree.*model\.allow_classes"):
        saved(forest, tmp_path)
    allowed = open_sklearn(files.read(str(tmp_path / "m.skops")), allow=(*ALLOWED, "sklearn.tree._tree.Tree"))
    assert allowed.score(columns()).error == [None] * N
    assert allowed.estimator.get_params()["last__n_jobs"] == 1


class Trap:
    """What a hostile pickle looks like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_is_opened_only_when_trusted(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    package = files.read(str(tmp_path / "m.pkl"))
    with pytest.raises(ModelError, match=r"runs whatever code.*model\.trust: true"):
        open_sklearn(package)
    with pytest.raises(ModelError, match="changed or tampered with"):
        open_sklearn(package.verified("0" * 64), trust=True)
    assert not (tmp_path / "sprung").exists()
    joblib.dump(fitted(), tmp_path / "m.joblib")
    good = files.read(str(tmp_path / "m.joblib"))
    assert open_sklearn(good.verified(good.sha256), trust=True).score(columns()).error == [None] * N


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.skops", b"PK\x03\x04 cut short", "cannot be opened"),
        ("m.joblib", b"\x80\x04 cut short", "cannot be opened"),
        ("m.txt", b"", "not a file of scikit-learn"),
    ],
)
def test_broken_files(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    package = files.read(str(tmp_path / name))
    with pytest.raises(ModelError, match=said):
        open_sklearn(package.verified(package.sha256), trust=True)


def test_what_is_no_fitted_estimator(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not fitted"):
        saved(LogisticRegression(), tmp_path)
    with pytest.raises(ModelError, match="cannot predict"):
        saved(StandardScaler(), tmp_path)
    with pytest.raises(ModelError, match="no such model"):
        files.read(str(tmp_path / "none.skops"))


def describe(path: Path, text: str) -> files.Package:
    (path / "MLmodel").write_text(text)
    return files.read(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flavors: {python_function: {loader_module: evil}}", "python_function .loader evil.*model.trust: true"),
        ("flavors: {spark: {model_data: sparkml}}", "only the job can score"),
        ("flavors: {pytorch: {}}", "flavours pytorch; expected one of spark, onnx"),
        ("flavors: {sklearn: {pickled_model: m.skops}}", "no file 'm.skops'"),
        ("flavors: [", "not a description of an MLflow model"),
        ("{}", "not a description of an MLflow model"),
    ],
)
def test_mlflow_folders_that_cannot_be_opened(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        mlflow.open_mlflow(describe(tmp_path, text))


def test_mlflow_does_not_believe_what_a_model_says_of_itself(tmp_path: Path) -> None:
    skops.io.dump(fitted(RandomForestClassifier(n_estimators=2)), tmp_path / "model.skops")
    package = describe(tmp_path, "flavors: {sklearn: {pickled_model: model.skops, skops_trusted_types: [sklearn.tree._tree.Tree]}}")
    with pytest.raises(ModelError, match="skops does not know to be harmless"):
        mlflow.open_mlflow(package)


def test_mlflow_signature_names_the_columns_of_a_matrix(tmp_path: Path) -> None:
    matrix = TABLE[["tenure", "charges"]].to_numpy(dtype=float)
    skops.io.dump(LinearRegression().fit(matrix, matrix[:, 0]), tmp_path / "model.skops")
    inputs = '[{"type": "long", "name": "tenure"}, {"type": "double", "name": "charges"}]'
    scorer = mlflow.open_mlflow(
        describe(tmp_path, f"flavors: {{sklearn: {{pickled_model: model.skops}}}}\nsignature: {{inputs: '{inputs}'}}")
    )
    assert scorer.inputs() == {"tenure": "number", "charges": "number"}
    np.testing.assert_allclose(scorer.score(columns()).prediction, TABLE.tenure, atol=1e-9)
