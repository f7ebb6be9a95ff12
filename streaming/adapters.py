"""Adapters found by name, imported only when asked for, so that a driver package is needed only by those who use it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final

from streaming.errors import EnvironmentFailure

#: store kind -> (module, extra that installs its driver; "" when nothing more is needed)
STORES: Final = {
    "sqlite": ("streaming.stores.sqlite", ""),
    "postgres": ("streaming.stores.postgres", "postgres"),
    "redis": ("streaming.stores.redis", "redis"),
    "delta": ("streaming.stores.delta", "delta"),
}

#: model format -> (module, extra that installs what it needs)
MODELS: Final = {
    "spark": ("streaming.models.spark.pipeline", ""),
    "sklearn": ("streaming.models.sklearn", "sklearn"),
    "onnx": ("streaming.models.onnx", "onnx"),
    "pmml": ("streaming.models.pmml", "pmml"),
    "mlflow": ("streaming.models.mlflow", "mlflow"),
}


def load(kind: str, adapters: dict[str, tuple[str, str]]) -> ModuleType:
    """Import the adapter module registered under `kind`; a missing package names the extra that installs it."""
    module, extra = adapters[kind]
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.startswith("streaming"):
            raise
        raise EnvironmentFailure(
            f"{kind}: the Python package {missing.name!r} is not installed; install it with: pip install 'streaming-scoring[{extra}]'"
        ) from missing
