"""Models to be converted, by format: how each is opened, converted and asked for the answers it has to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streaming.convert import parity
from streaming.convert.converted import Converted
from streaming.errors import ModelError
from streaming.portable.base import Columns, Scores
from streaming.sections import SavedModel

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: scikit-learn's trees compare and add in single precision here and there; its linear models do not.
_SKLEARN_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class Original:
    """A model as it was saved."""

    convert: Callable[[], Converted]
    score: Callable[[Columns, Converted], Scores]
    sha256: str
    #: Its training manifest, if it has one.
    manifest: Mapping[str, Any] | None
    tolerance: float


def original(section: SavedModel, spark: SparkSession | None) -> Original:
    """The model of `section`, opened and checked as for scoring. ModelError when it cannot be, or its format has no portable form."""
    if section.format not in FORMATS:
        raise ModelError(
            f"{section.uri}: models of format {section.format} cannot be made portable; formats that can: {', '.join(FORMATS)}"
        )
    return FORMATS[section.format](section, spark)


def _spark(section: SavedModel, spark: SparkSession | None) -> Original:
    from streaming.convert import spark as convert
    from streaming.models import sparkml

    if spark is None:
        raise ModelError(f"{section.uri}: a saved Spark pipeline can be converted only with a Spark session")
    model = sparkml.load(section, spark)
    return Original(
        convert=lambda: convert.convert(model),
        score=lambda columns, converted: parity.spark_scores(model, columns, converted.kinds, converted.types),
        sha256=model.fingerprint,
        manifest=model.manifest,
        tolerance=parity.TOLERANCE,
    )


def _sklearn(section: SavedModel, spark: SparkSession | None) -> Original:
    from streaming.convert import sklearn as convert
    from streaming.portable import package
    from streaming.portable.sklearn import open_sklearn

    found = package.read(section.uri).verified(section.sha256)
    scorer = open_sklearn(found, trust=section.trust, allow=section.allow_classes)
    return Original(
        convert=lambda: convert.convert(scorer),
        score=lambda columns, converted: scorer.score(columns),
        sha256=found.sha256,
        manifest=None,
        tolerance=_SKLEARN_TOLERANCE,
    )


def _onnx(section: SavedModel, spark: SparkSession | None) -> Original:
    from streaming.convert import bare
    from streaming.portable import package
    from streaming.portable.onnx import open_onnx

    found = package.read(section.uri).verified(section.sha256)
    with found.on_disk() as path:
        scorer = open_onnx(path)
        content = bare.content(path)
    return Original(
        convert=lambda: bare.convert(scorer, content),
        score=lambda columns, converted: scorer.score(columns),
        sha256=found.sha256,
        manifest=None,
        tolerance=parity.TOLERANCE,
    )


FORMATS: Final[Mapping[str, Callable[[SavedModel, SparkSession | None], Original]]] = {"spark": _spark, "sklearn": _sklearn, "onnx": _onnx}  # type: ignore[name-defined, unused-ignore]
