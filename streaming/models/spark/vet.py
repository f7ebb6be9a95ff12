"""Nothing dangerous is loaded: a saved model is read as plain JSON and refused here, before Spark opens it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models.copied import Copy
from streaming.models.spark import metadata as stages
from streaming.models.spark import statement
from streaming.models.spark.metadata import Stage
from streaming.models.spark.statement import Columns

_PACKAGES: Final = ("feature", "classification", "regression", "clustering")
#: Spark's transformers that need no fitting. Everything else that may be loaded is called ...Model.
_TRANSFORMERS: Final = frozenset(
    {
        "Binarizer", "Bucketizer", "ColumnPruner", "DCT", "ElementwiseProduct", "FeatureHasher", "HashingTF", "IndexToString", "Interaction",
        "NGram", "Normalizer", "PolynomialExpansion", "RegexTokenizer", "SQLTransformer", "StopWordsRemover", "Tokenizer", "VectorAssembler",
        "VectorAttributeRewriter", "VectorSizeHint", "VectorSlicer",
    }
)  # fmt: skip
_NOT_ROW_BY_ROW: Final = {
    "OneVsRestModel": "it asks how its input is stored, which no stream can answer; use a classifier that is multiclass by itself, "
    "such as LogisticRegression with family=multinomial",
    "ALSModel": "it joins tables, which real-time mode refuses; serve its recommendations as a table",
    "DistributedLDAModel": "it needs its training data; save toLocal() instead",
    "CrossValidatorModel": "it holds more than the model; save its bestModel",
    "TrainValidationSplitModel": "it holds more than the model; save its bestModel",
}
#: Of names that are put into paths and into SQL: no blank, no quote, no sign of a pattern.
_CLASS: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")
_UID: Final = re.compile(r"[A-Za-z0-9_.-]+")
#: Of a uid that Spark makes the name of a table of, in SQL.
_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def vet(section: SavedModel, copy: Copy, spark: SparkSession) -> tuple[Stage, ...]:
    """The stages of a model that may be loaded. ModelError says what is wrong with any other.

    `copy`: what will be loaded, if at all. Of the session only its parser is used, on text that has been looked at; nothing of the model runs.
    """
    metadata = stages.read(copy)
    for place, described in metadata.items():
        _check_text(section, place, described)
        _check_class(section, place, described)
    # Whatever a pipeline says it holds, wherever it stands: a stage may have stages that it keeps to itself.
    statements = {place: _statement(section, spark, place, described) for place, described in metadata.items() if _is_statement(described)}
    flat = tuple(_with_columns(stage, statements) for stage in stages.flatten(section.uri, metadata))
    for stage in flat:
        for part in (stage, *stage.inner):
            _check_params(section.uri, stage, part)
    return flat


def _check_text(section: SavedModel, place: str, stage: Mapping[str, Any]) -> None:
    """Spark replaces ${...} with settings and variables of the environment wherever a text becomes SQL."""
    if "${" in json.dumps(stage, ensure_ascii=False):
        raise ModelError(f"{section.uri}: {place or 'the top'}: has ${{, which Spark replaces with settings and secrets; save the model "
                         "without it")  # fmt: skip


def _check_class(section: SavedModel, place: str, stage: Mapping[str, Any]) -> None:
    name, uid = stage["class"], stage["uid"]
    where = f"{section.uri}: {place or 'the top'}: class {name} ({uid})"
    if not _CLASS.fullmatch(name) or not _UID.fullmatch(uid) or ".." in uid:
        raise ModelError(f"{where}: expected the name of a class, and a uid of letters, digits, '.', '_' and '-' that leads to no other folder; "
                         "save the model again")  # fmt: skip
    if _allowed(name, section.allow_classes):
        return
    short = name.rsplit(".", 1)[-1]
    if short in _NOT_ROW_BY_ROW and name.startswith(("org.apache.spark.ml.", "pyspark.ml.")):
        raise ModelError(f"{where} cannot run on a stream: {_NOT_ROW_BY_ROW[short]}")
    if name.startswith(("org.apache.spark.ml.", "pyspark.ml.")):
        raise ModelError(f"{where} is not fitted, or no model of Spark's: call fit and save the result")
    raise ModelError(f"{where} is not allowed: loading a model runs the classes it names; "
                     "if you trust this one, add its prefix to model.allow_classes")  # fmt: skip


def _allowed(name: str, prefixes: Sequence[str]) -> bool:
    """Spark's own models and transformers, by the exact shape of their names; others by the prefixes of the config."""
    short = name.rsplit(".", 1)[-1]
    if short in _NOT_ROW_BY_ROW:
        return False
    if name in {"org.apache.spark.ml.PipelineModel", "pyspark.ml.pipeline.PipelineModel"}:
        return True
    for root in ("org.apache.spark.ml.", "pyspark.ml."):
        if name.startswith(root):
            parts = name.removeprefix(root).split(".")
            return len(parts) == 2 and parts[0] in _PACKAGES and (short in _TRANSFORMERS or (short.endswith("Model") and short.isalnum()))
    return any(name == prefix.rstrip(".") or name.startswith((f"{prefix.rstrip('.')}.", f"{prefix.rstrip('.')}$")) for prefix in prefixes)


def _check_params(uri: str, stage: Stage, part: Stage) -> None:
    where = f"{uri}: {stage}" + ("" if part is stage else f", inside it {part}")
    if part.params.get("handleInvalid") == "skip":
        raise ModelError(f'{where}: handleInvalid="skip" drops rows, so an event would never be answered; save it with handleInvalid="keep", '
                         'or "error": such rows then go to the rejected topic')  # fmt: skip


def _is_statement(stage: Mapping[str, Any]) -> bool:
    return str(stage["class"]).rsplit(".", 1)[-1] == "SQLTransformer"


def _statement(section: SavedModel, spark: SparkSession, place: str, stage: Mapping[str, Any]) -> Columns:
    """The columns of a SQLTransformer. ModelError when its statement does more than compute columns."""
    uid = str(stage["uid"])
    where = f"{section.uri}: {place or 'the top'}: SQLTransformer ({uid}): statement"
    if not _TABLE.fullmatch(uid):
        raise ModelError(f"{where}: the uid becomes the name of a table; expected letters, digits and '_'; save the model again")
    text = {**stage.get("defaultParamMap", {}), **stage.get("paramMap", {})}.get("statement")
    return statement.check(str(text or ""), uid=uid, where=where, spark=spark)


def _with_columns(stage: Stage, statements: Mapping[str, Columns]) -> Stage:
    """A SQLTransformer with the columns that its statement reads and writes; any other stage as it is."""
    columns = statements.get(stage.folder)
    return stage if columns is None else replace(stage, inputs=tuple(columns.reads), outputs=tuple(columns.writes))
