"""What is found by its name: stores, model formats and optional parts. Strings only: a driver package is needed by those who use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Final

from streaming.errors import EnvironmentFailure, ModelError

#: store kind -> (module, extra that installs its driver; "" when nothing more is needed)
STORES: Final = {
    "sqlite": ("streaming.stores.sqlite", ""),
    "postgres": ("streaming.stores.postgres", "postgres"),
    "redis": ("streaming.stores.redis", "redis"),
    "delta": ("streaming.stores.delta", "delta"),
}

#: optional part -> (module, extra that installs what it needs)
PARTS: Final = {
    "api": ("streaming.api.server", "api"),
    "package": ("streaming.convert.package", "convert"),
    "monitor": ("streaming.lanes.monitor", "monitor"),
    "baseline": ("streaming.training.baseline", "monitor"),
    "to pmml": ("streaming.convert.pmml", "convert-pmml"),
}


@dataclass(frozen=True)
class Format:
    """What can be done with a model of one format, by the module that does it; "": it cannot be done."""

    #: Installs what the format needs; "" when nothing more is needed.
    extra: str
    #: `load(section, spark) -> Model`: scores a DataFrame.
    model: str = "streaming.models.python"
    #: `open_scorer(package, section) -> Scorer`: scores columns without Spark. "": only through a package made of it.
    scorer: str = ""
    #: `original(section, spark) -> Original`: can be made a portable package.
    original: str = ""


#: What `model.format` may be. A new format is one row here and one file.
FORMATS: Final = {
    "spark": Format("", model="streaming.models.spark.pipeline", original="streaming.convert.spark.original"),
    "sklearn": Format("sklearn", scorer="streaming.scorers.sklearn", original="streaming.convert.sklearn"),
    "onnx": Format("onnx", scorer="streaming.scorers.onnx", original="streaming.convert.onnx"),
    "pmml": Format("pmml", model="streaming.models.pmml", scorer="streaming.scorers.pmml"),
    "mlflow": Format("mlflow", model="streaming.models.mlflow", scorer="streaming.scorers.mlflow"),
}


def load(kind: str, adapters: Mapping[str, tuple[str, str]]) -> ModuleType:
    """Import the adapter module registered under `kind`; a missing package names the extra that installs it."""
    module, extra = adapters[kind]
    return _imported(kind, module, extra)


def model_of(kind: str) -> ModuleType:
    """The module whose `load(section, spark)` makes a Model of a saved one of this format."""
    return _imported(kind, FORMATS[kind].model, FORMATS[kind].extra)


def scorer_of(kind: str) -> ModuleType:
    """The module whose `open_scorer(package, section)` opens models of this format without Spark. ModelError when none does."""
    if not FORMATS[kind].scorer:
        able = ", ".join(name for name, known in FORMATS.items() if known.scorer)
        raise ModelError(f"model.format: {kind}: only Spark opens such a model; formats that need no Spark: {able}")
    return _imported(kind, FORMATS[kind].scorer, FORMATS[kind].extra)


def original_of(kind: str) -> ModuleType:
    """The module whose `original(section, spark)` makes models of this format portable. ModelError when none does."""
    if not FORMATS[kind].original:
        raise ModelError(f"models of format {kind} cannot be made portable; formats that can: {', '.join(portable())}")
    return _imported(kind, FORMATS[kind].original, "convert")


def portable() -> tuple[str, ...]:
    """The formats that can be made a portable package."""
    return tuple(name for name, known in FORMATS.items() if known.original)


def _imported(kind: str, module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.startswith("streaming"):
            raise
        raise EnvironmentFailure(
            f"{kind}: the Python package {missing.name!r} is not installed; install it with: pip install 'streaming-scoring[{extra}]'"
        ) from missing
