"""Models to be converted, by format: how each is opened, converted and asked for the answers it has to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streaming.config.sections import SavedModel
from streaming.convert.converted import Converted
from streaming.errors import ModelError
from streaming.scorers import compare
from streaming.scorers.base import Columns, Scores

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
    from streaming.convert.spark import answers
    from streaming.convert.spark import pipeline as convert
    from streaming.models.spark import pipeline

    if spark is None:
        raise ModelError(f"{section.uri}: a saved Spark pipeline can be converted only with a Spark session")
    model = pipeline.load(section, spark)
    return Original(
        convert=lambda: convert.convert(model),
        score=lambda columns, converted: answers.scores(model, columns, converted.kinds, converted.types),
        sha256=model.fingerprint,
        manifest=model.manifest,
        tolerance=compare.TOLERANCE,
    )


def _sklearn(section: SavedModel, spark: SparkSession | None) -> Original:
    from streaming.convert import sklearn as convert
    from streaming.scorers import files
    from streaming.scorers.sklearn import open_sklearn

    found = files.read(section.uri).verified(section.sha256)
    scorer = open_sklearn(found, trust=section.trust, allow=section.allow_classes)
    return Original(
        convert=lambda: convert.convert(scorer),
        score=lambda columns, converted: scorer.score(columns),
        sha256=found.sha256,
        manifest=None,
        tolerance=_SKLEARN_TOLERANCE,
    )


def _onnx(section: SavedModel, spark: SparkSession | None) -> Original:
    from streaming.convert import onnx
    from streaming.scorers import files
    from streaming.scorers.onnx import open_onnx

    found = files.read(section.uri).verified(section.sha256)
    with found.on_disk() as path:
        scorer = open_onnx(path)
        content = onnx.content(path)
    return Original(
        convert=lambda: onnx.convert(scorer, content),
        score=lambda columns, converted: scorer.score(columns),
        sha256=found.sha256,
        manifest=None,
        tolerance=compare.TOLERANCE,
    )


FORMATS: Final[Mapping[str, Callable[[SavedModel, SparkSession | None], Original]]] = {"spark": _spark, "sklearn": _sklearn, "onnx": _onnx}  # type: ignore[name-defined, unused-ignore]
