"""The stages inside an RFormulaModel, which Spark ML keeps to itself, beside the other stages of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pyspark.ml.wrapper import JavaParams

from streaming.models.spark.metadata import Stage, needed


@dataclass(frozen=True)
class _Inside(Stage):
    """A stage inside a formula: to a row, and to who reads why it failed, the formula is one stage."""

    formula: str = ""
    speaks: str = ""

    def __str__(self) -> str:
        return f"{self.formula}, inside it {self.name}"

    def flow(self) -> str:
        """The formula's."""
        return self.speaks


def opened(steps: Sequence[tuple[Stage, Any]]) -> list[tuple[Stage, Any]]:
    """The steps, each RFormulaModel replaced by the stages inside it that its features need."""
    return [each for stage, fitted in steps for each in (_inside(stage, fitted) if stage.inner else [(stage, fitted)])]


def _inside(stage: Stage, fitted: Any) -> Iterator[tuple[Stage, Any]]:
    # By their order: Spark gives several stages of a formula the uid of the formula.
    live = {inner.index for inner in needed(stage.inner, {str(stage.params.get("featuresCol"))})}
    for inner, java in zip(stage.inner, _stages(fitted._java_obj.pipelineModel()), strict=True):
        if inner.index in live:
            yield _Inside(**vars(inner), formula=str(stage), speaks=stage.flow()), _in_python(java)


def _stages(java: Any) -> Iterator[Any]:
    for each in java.stages():
        if each.getClass().getSimpleName() == "PipelineModel":
            yield from _stages(each)
        else:
            yield each


def _in_python(java: Any) -> Any:
    try:
        return JavaParams._from_java(java)
    except (AttributeError, ImportError, NotImplementedError):  # a class that Spark keeps to itself
        return SimpleNamespace(_java_obj=java)
