"""Saved scikit-learn models as a Scorer: skops files, whose types are checked before they are made; pickles only when trusted."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import joblib  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.scorers import sklearn_columns as described
from streaming.scorers import sklearn_paths
from streaming.scorers.base import ColumnKind, Columns, Scores
from streaming.scorers.files import Package
from streaming.scorers.sklearn_columns import EstimatorColumn

#: BLAS adds up in another order in the last few rows of a matrix; with whole blocks of rows each row gets the same bits,
#: alone or among others.
_BLOCK: Final = 16
_PICKLES: Final = (".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class SklearnScorer:
    """A fitted estimator, ready to score. Made by :func:`open_sklearn`."""

    uri: str
    estimator: Any = field(repr=False)
    #: What it reads. Without column names: one vector `features`.
    columns: tuple[EstimatorColumn, ...]
    #: Length of `features`; 0 when the model reads named columns.
    size: int
    #: What a single odd value does to a good row: (column, oddity) -> True when the model refuses it.
    _refused: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False)
    #: A row that the model takes, when one is known.
    _good: list[Any] = field(default_factory=list, repr=False)

    def inputs(self) -> Mapping[str, ColumnKind]:
        """The fitted column names with their kinds, or the vector `features`."""
        return {"features": "vector"} if self.size else {column.name: column.kind for column in self.columns}

    def score(self, columns: Columns) -> Scores:
        """See :class:`streaming.scorers.base.Scorer`. Only the rows that the model refuses get an error."""
        table = self._vector(columns) if self.size else described.frame(self.uri, self.columns, columns)
        if isinstance(table, Scores):
            return table
        n = len(table)
        prediction: NDArray[np.float64] = np.full(n, np.nan)
        width = len(getattr(self.estimator, "classes_", ())) if hasattr(self.estimator, "predict_proba") else 0
        probability: NDArray[np.float64] | None = np.full((n, width), np.nan) if width else None
        errors: list[str | None] = [None] * n
        self._score(table, np.arange(n), prediction, probability, errors)
        return Scores(prediction, probability, errors)

    def _vector(self, columns: Columns) -> NDArray[Any] | Scores:
        values = columns.get("features")
        if values is None or values.ndim != 2:
            raise ModelError(f"{self.uri}: expected a column features with one vector a row")
        if values.shape[1] != self.size:
            text = f"features has {values.shape[1]} numbers; the model reads {self.size}"
            return Scores(np.full(len(values), np.nan), None, [text] * len(values))
        return values

    def _score(self, table: Any, rows: NDArray[Any], prediction: Any, probability: Any, errors: list[str | None]) -> None:
        """Score `rows` of the table: all at once if the model takes them, else those it refuses one by one, found by halving."""
        if not len(rows):
            return
        try:
            p, q = self._answer(described.take(table, rows))
        except Exception as refused:  # any code of any estimator: what it cannot score is the row's error
            if len(rows) == 1:
                errors[rows[0]] = self._why(table, int(rows[0]), refused)
                return
            good = self._sieve(table, rows, errors)
            if len(good) < len(rows):
                self._score(table, good, prediction, probability, errors)
                return
            half = len(rows) // 2
            self._score(table, rows[:half], prediction, probability, errors)
            self._score(table, rows[half:], prediction, probability, errors)
            return
        if len(rows) < len(table) and not self._good:
            self._good.append(described.take(table, rows[:1]))
        finite = np.isfinite(p) & (np.isfinite(q).all(axis=1) if q is not None else True)
        prediction[rows] = np.where(finite, p, np.nan)
        if q is not None and probability is not None:
            probability[rows] = np.where(finite[:, None], q, np.nan)
        for row in rows[~finite]:
            errors[row] = f"{self._name()}: the prediction is NaN or infinite"

    def _answer(self, table: Any) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Predictions and probabilities of rows that the model takes. Classes are their indexes."""
        n = len(table)
        filled = described.take(table, np.minimum(np.arange(-(-n // _BLOCK) * _BLOCK), n - 1)) if n % _BLOCK else table
        classes = getattr(self.estimator, "classes_", None)
        # A warning about one row's value is no news to whoever runs the service, and would come with every batch.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if classes is not None and hasattr(self.estimator, "predict_proba"):
                q = np.asarray(self.estimator.predict_proba(filled), dtype=np.float64)[:n]
                if self._most_probable():
                    return q.argmax(axis=1).astype(np.float64), q
            else:
                q = None
            p = np.asarray(self.estimator.predict(filled))[:n]
        if p.ndim != 1:
            raise ModelError(f"{self.uri}: the model predicts {p.shape[1]} values for a row; expected one")
        if classes is None:
            return p.astype(np.float64), q
        return np.searchsorted(classes, p).astype(np.float64), q

    def _most_probable(self) -> bool:
        """True when predict is known to be the most probable class, so that one pass through the model is enough."""
        last = self.estimator[-1] if hasattr(self.estimator, "steps") else self.estimator
        return type(last).__name__ in _BY_PROBABILITY and type(last).__module__.startswith("sklearn.")

    def _sieve(self, table: Any, rows: NDArray[Any], errors: list[str | None]) -> NDArray[Any]:
        """The rows without a value that the model is known to refuse. Keeps halving short when many rows are bad."""
        refused = [(odd, where) for odd, where in self._oddities(table, rows) if where.any() and self._refuses(*odd)]
        bad = np.any([where for _, where in refused], axis=0) if refused else np.zeros(len(rows), dtype=bool)
        for place in np.flatnonzero(bad):
            errors[rows[place]] = self._said([odd for odd, where in refused if where[place]])
        kept: NDArray[Any] = rows[~bad]
        return kept

    def _oddities(self, table: Any, rows: NDArray[Any]) -> Sequence[tuple[tuple[str, str], NDArray[np.bool_]]]:
        if not self.size:
            return described.oddities(self.columns, described.take(table, rows))
        return [(("features", oddity), where) for oddity, where in described.number_oddities(table[rows])]

    def _refuses(self, name: str, oddity: str) -> bool:
        """Whether one such value makes the model refuse a row that is good otherwise. Asked once, then known."""
        known = self._refused.get((name, oddity))
        if known is None:
            if not self._good:
                made = np.zeros((1, self.size)) if self.size else described.example(self.columns)
                self._good.extend([made] if self._takes(made) else [])
            if not self._good:
                return False
            known = not self._takes(self._spoiled(self._good[0], name, oddity))
            self._refused[name, oddity] = known
        return known

    def _spoiled(self, row: Any, name: str, oddity: str) -> Any:
        if not self.size:
            return described.spoiled(self.columns, row, name, oddity)
        odd = row.copy()
        odd[0, 0] = described.ODD_NUMBERS[oddity]
        return odd

    def _takes(self, table: Any) -> bool:
        try:
            self._answer(table)
        except Exception:  # what it raises does not matter here, only that it does
            return False
        return True

    def _why(self, table: Any, row: int, refused: Exception) -> str:
        """What is odd about a row that the model refuses. Never the estimator's own words: they tend to quote values."""
        odd = [oddity for oddity, where in self._oddities(table, np.array([row])) if where.any()]
        known = [oddity for oddity in odd if self._refuses(*oddity)]
        return self._said(known or odd) if odd else f"{self._name()}: refuses the row ({type(refused).__name__})"

    def _said(self, odd: Sequence[tuple[str, str]]) -> str:
        return f"{self._name()}: {'; '.join(f'{name} {described.WORDS[oddity]}' for name, oddity in odd)}"

    def _name(self) -> str:
        return type(self.estimator).__name__


#: predict() is argmax of predict_proba() for these.
_BY_PROBABILITY: Final = frozenset(
    {
        "LogisticRegression", "RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier", "ExtraTreeClassifier",
        "GaussianNB", "MultinomialNB", "BernoulliNB",
    }
)  # fmt: skip


def open_scorer(package: Package, section: SavedModel) -> SklearnScorer:
    """The estimator of `package`, ready to score. ModelError when it is not the one of `section`, or may not be opened."""
    return open_sklearn(package.verified(section.sha256), trust=section.trust, allow=section.allow_classes)


def open_sklearn(
    package: Package, *, trust: bool = False, allow: Sequence[str] = (), signature: Sequence[EstimatorColumn] = ()
) -> SklearnScorer:
    """The estimator of a checked package, ready to score. ModelError when it may not be opened or is no fitted estimator.

    `.skops`: only types that skops trusts, and those that `allow` names in full. `.pkl`, `.pickle`, `.joblib`: only
    with `trust`, because opening one runs whatever code it holds. `signature`: the columns the model reads, as somebody
    else knows them, for what the estimator itself does not say.
    """
    if package.is_folder:
        raise ModelError(f"{package.uri}: a folder; expected one file, .skops (or {', '.join(_PICKLES)} with trust: true)")
    ((name, content),) = package.files.items()
    if name.endswith(".skops"):
        return _scorer(package.uri, _from_skops(package.uri, content, allow), signature)
    if not name.endswith(_PICKLES):
        raise ModelError(f"{package.uri}: not a file of scikit-learn; expected .skops, or {', '.join(_PICKLES)}")
    if not trust:
        raise ModelError(f"{package.uri}: a pickle: opening it runs whatever code is in it, with the rights of this service. Save the model with "
                         "skops.io.dump(model, 'model.skops') instead; or, if you know who made the file, set model.trust: true and model.sha256")  # fmt: skip
    return _scorer(package.vouched_for().uri, _loaded(package.uri, lambda: _unpickled(content)), signature)


def _unpickled(content: bytes) -> Any:
    return joblib.load(io.BytesIO(content))


def _from_skops(uri: str, content: bytes, allow: Sequence[str]) -> Any:
    unknown = _loaded(uri, lambda: skops.io.get_untrusted_types(data=content))
    refused = [name for name in unknown if name not in allow]
    if refused:
        raise ModelError(f"{uri}: types that skops does not know to be harmless: {', '.join(refused)}; "
                         "if you trust the file, name each of them in model.allow_classes, and give model.sha256")  # fmt: skip
    return _loaded(uri, lambda: skops.io.loads(content, trusted=unknown))


def _loaded(uri: str, load: Callable[[], Any]) -> Any:
    """What `load` gives; ModelError in place of anything it raises: a broken file can fail in any way."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", InconsistentVersionWarning)
            return load()
    except InconsistentVersionWarning as other:
        raise ModelError(f"{uri}: saved by scikit-learn {other.original_sklearn_version}, this is {other.current_sklearn_version}, and it may answer "
                         "otherwise; install the version that saved it, or save it again with this one") from other  # fmt: skip
    except Exception as broken:
        raise ModelError(f"{uri}: cannot be opened: {type(broken).__name__}: {broken}; save the model again") from broken


def _scorer(uri: str, estimator: Any, signature: Sequence[EstimatorColumn]) -> SklearnScorer:
    try:
        sklearn_paths.check(estimator)
    except ValueError as odd:
        raise ModelError(f"{uri}: {odd}") from odd
    if not hasattr(estimator, "predict"):
        raise ModelError(f"{uri}: a {type(estimator).__name__} cannot predict; expected a fitted estimator or a Pipeline that ends in one")
    try:
        check_is_fitted(estimator)
    except NotFittedError as unfitted:
        raise ModelError(f"{uri}: {type(estimator).__name__} is not fitted: call fit and save the result") from unfitted
    # Spark runs a worker for each core, and threads that add up in any order give another last bit each time.
    jobs = [name for name in estimator.get_params() if name == "n_jobs" or name.endswith("__n_jobs")]
    estimator.set_params(**dict.fromkeys(jobs, 1))
    columns = described.columns_of(estimator, signature)
    size = 0 if columns else int(getattr(estimator, "n_features_in_", 0))
    if not columns and not size:
        raise ModelError(f"{uri}: {type(estimator).__name__} does not say what it reads; fit it on a DataFrame, or on a matrix")
    return SklearnScorer(uri, estimator, columns, size)
