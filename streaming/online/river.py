"""Any classifier or regressor of the River package, row by row in one process.

A River model is a web of Python objects, so its state is a pickle inside a byte array. It is opened only by a reader
that knows River's own classes, NumPy's arrays and plain containers; anything else is refused before it exists.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from types import BuiltinFunctionType, FunctionType
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from streaming.online.base import Array, Labels
from streaming.online.weights import Scored, Weights

_PLAIN: Final = {
    "builtins": {
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "float",
        "frozenset",
        "int",
        "list",
        "object",
        "range",
        "set",
        "slice",
        "str",
        "tuple",
    },
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "functools": {"partial"},
    "random": {"Random"},
    "statistics": {"NormalDist"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pcg64": {"PCG64"},
}
#: The parts of River that models are made of. A part that River gains is not among them before somebody has looked at it.
_PARTS: Final = frozenset(
    {
        "_river_rust", "active", "anomaly", "bandit", "base", "cluster", "compose", "covariance", "drift", "dummy", "ensemble", "facto",
        "feature_extraction", "feature_selection", "forest", "imblearn", "linear_model", "metrics", "misc", "model_selection", "multiclass",
        "multioutput", "naive_bayes", "neighbors", "optim", "preprocessing", "proba", "reco", "rules", "sketch", "stats", "time_series",
        "tree", "utils",
    }
)  # fmt: skip
#: Inside them: what fetches and unpacks files, and what plays games.
_OUTSIDE: Final = frozenset({"datasets", "envs", "evaluate"})
#: River's compiled arithmetic: distances, statistics.
_COMPILED: Final = "river._river_rust."


@dataclass(frozen=True, eq=False)
class RiverState:
    """The pickled model (uint8), the number of features and the number of rows learned."""

    model: NDArray[np.uint8]
    d: int
    rows: int


@dataclass(frozen=True, eq=False)
class RiverSummary:
    """The model after the partition's rows; `parts` counts the partitions that had rows."""

    model: NDArray[np.uint8]
    n: int
    parts: int


@dataclass(frozen=True)
class River:
    """A River model by import path, such as "linear_model.LogisticRegression", with `params` for its constructor.

    A parameter that is itself a River object is written {"class": "optim.SGD", "params": {"lr": 0.05}}. A `seed` is 0 unless given. `scale` puts a
    StandardScaler before the model. Needs all rows of a batch in one partition, and has no SQL form (`weights` is None).
    """

    model: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    scale: bool = True

    state_type: ClassVar[type[RiverState]] = RiverState
    summary_type: ClassVar[type[RiverSummary]] = RiverSummary
    sequential: ClassVar[bool] = True
    scale_free: ClassVar[bool] = False
    chunk: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        """ValueError if the class is not a River classifier or regressor, or refuses its parameters."""
        self._kind()

    @property
    def labels(self) -> Labels:
        """binary for a classifier, number for a regressor."""
        return "binary" if self._kind() == "classifier" else "number"

    @property
    def classes(self) -> int:
        """2 or 0."""
        return 2 if self._kind() == "classifier" else 0

    def init(self, d: int) -> RiverState:
        """The untrained model."""
        return RiverState(_dump(self._build()), d, 0)

    def warm(self, weights: Weights) -> RiverState:
        """Always ValueError: River models take no coefficients."""
        raise ValueError("river: cannot start from weights; start cold")

    def predict(self, state: RiverState, X: Array) -> Array:
        """(n,) probability of class 1, or value."""
        model = load(state.model)
        if self.classes:
            return np.array([float(model.predict_proba_one(x).get(True, 0.0)) for x in _rows(X)])
        return np.array([float(model.predict_one(x) or 0.0) for x in _rows(X)])

    def score(self, state: RiverState, X: Array) -> Scored:
        """Class and probabilities, or value. A classifier that has seen one class only may give probability 0 to both."""
        p = self.predict(state, X)
        if self.classes:
            return Scored((p > 0.5).astype(float), np.column_stack([1.0 - p, p]))
        return Scored(p, None)

    def summarize(self, state: RiverState, X: Array, y: Array) -> RiverSummary:
        """Learn the rows one by one."""
        if len(X) == 0:
            return RiverSummary(state.model, 0, 0)
        model = load(state.model)
        for x, label in zip(_rows(X), y.tolist(), strict=True):
            model.learn_one(x, bool(label) if self.classes else label)
        return RiverSummary(_dump(model), len(X), 1)

    def merge(self, left: RiverSummary, right: RiverSummary) -> RiverSummary:
        """The one that has rows. ValueError if both have: a River model cannot be averaged."""
        if left.n and right.n:
            raise ValueError("river: rows of one batch lie in two partitions; coalesce the batch to one partition first")
        return left if left.n else right

    def update(self, state: RiverState, summary: RiverSummary) -> RiverState:
        """The model after the rows."""
        return state if summary.n == 0 else RiverState(summary.model, state.d, state.rows + summary.n)

    def weights(self, state: RiverState) -> Weights | None:
        """Always None."""
        return None

    def _kind(self) -> str:
        base = import_module("river.base")
        model = self._build(scaled=False)
        if isinstance(model, base.Classifier):
            return "classifier"
        if isinstance(model, base.Regressor):
            return "regressor"
        raise ValueError(f"river: {self.model} is neither a classifier nor a regressor")

    def _build(self, *, scaled: bool | None = None) -> Any:
        model = _construct(self.model, self.params)
        if self.scale if scaled is None else scaled:
            return import_module("river.preprocessing").StandardScaler() | model
        return model


def _construct(path: str, params: Mapping[str, Any]) -> Any:
    """An object of a River class; nested {"class", "params"} mappings are constructed first."""
    module, _, name = ("river." + path.removeprefix("river.")).rpartition(".")
    try:
        named = getattr(import_module(module), name)
    except (ImportError, AttributeError) as unknown:
        raise ValueError(
            f"river: no class {path!r} in River; write it as in its documentation, such as linear_model.LogisticRegression"
        ) from unknown
    if not _is_river_class(named):
        raise ValueError(f"river: {path} is not a River model class")
    arguments = {
        k: _construct(v["class"], v.get("params", {})) if isinstance(v, Mapping) and "class" in v else v for k, v in params.items()
    }
    if "seed" in signature(named).parameters:
        # Learning must be a function of the rows: an unseeded forest would differ at each replay.
        arguments.setdefault("seed", 0)
    try:
        return named(**arguments)
    except TypeError as refused:
        raise ValueError(f"river: {path}: {refused}") from refused


def _is_part(module: str) -> bool:
    """True for a module of River's that holds models, or what models are made of."""
    river, *below = module.split(".")
    return river == "river" and bool(below) and below[0] in _PARTS and not _OUTSIDE & set(below)


def _is_river_class(candidate: Any) -> bool:
    """True for a class of such a module that has nothing of another part of River."""
    if not isinstance(candidate, type):
        return False
    parents = [cls.__module__ for cls in candidate.__mro__ if cls.__module__.split(".")[0] == "river"]
    return _is_part(candidate.__module__) and all(map(_is_part, parents))


def _rows(X: Array) -> list[dict[str, float]]:
    names = [f"x{i}" for i in range(X.shape[1])]
    return [dict(zip(names, row, strict=True)) for row in X.tolist()]


def _dump(model: Any) -> NDArray[np.uint8]:
    return np.frombuffer(pickle.dumps(model, protocol=4), dtype=np.uint8).copy()


class _Reader(pickle.Unpickler):
    """Finds River's classes and their own methods, NumPy's arrays and plain containers; nothing else.

    A dotted name is followed only from a River class to a function in that class's own body: "river.x:os.system" leads
    through a module that River merely imports, and is refused.
    """

    def find_class(self, module: str, name: str) -> Any:
        if name in _PLAIN.get(module, ()):
            return super().find_class(module, name)
        if _is_part(module):
            owner, _, method = name.partition(".")
            candidate = super().find_class(module, owner)
            if _is_river_class(candidate):
                if not method:
                    return candidate
                function = vars(candidate).get(method)
                if isinstance(function, FunctionType | staticmethod) and not method.startswith("__"):
                    return getattr(candidate, method)
            if name.startswith("__pyx_unpickle_") or (module.startswith(_COMPILED) and isinstance(candidate, BuiltinFunctionType)):
                return candidate
        if (module, name) == ("builtins", "getattr"):
            return _bound_method
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a River model")


def _bound_method(owner: Any, name: str) -> Any:
    """How pickle spells a bound method, narrowed to methods written in River's own classes."""
    if _is_river_class(type(owner)) and not name.startswith("__"):
        # The class that wrote it counts, not the one that has it: a model inherits from containers and abstract classes too.
        writer = next((cls for cls in type(owner).__mro__ if name in vars(cls)), object)
        if _is_river_class(writer) and isinstance(vars(writer).get(name), FunctionType | staticmethod | classmethod):
            return getattr(owner, name)
    raise pickle.UnpicklingError(f"{type(owner).__name__}.{name} is not part of a River model")


def load(model: NDArray[np.uint8]) -> Any:
    """The model in a state. ValueError if the bytes name anything but River's own parts."""
    try:
        return _Reader(io.BytesIO(model.tobytes())).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError) as refused:
        raise ValueError(f"river: the state cannot be opened: {refused}") from refused
