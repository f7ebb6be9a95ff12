"""Nothing dangerous is loaded: a saved model is read as plain JSON and refused here, before Spark opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest
from streaming.models.spark import metadata as stages
from streaming.models.spark.metadata import Stage
from streaming.scorers.files import MANIFEST, tampered

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
#: What runs any method of any class that is on the class path.
_REFLECTION: Final = frozenset({"java_method", "reflect", "try_reflect"})
#: Clauses of a statement, by the operator that Spark's parser makes of them.
_CLAUSES: Final = {
    "Filter": "WHERE, which drops rows",
    "UnresolvedHaving": "HAVING, which drops rows",
    "GlobalLimit": "LIMIT, which silently ends the stream's answers",
    "LocalLimit": "LIMIT, which silently ends the stream's answers",
    "Offset": "OFFSET, which drops rows",
    "Sort": "ORDER BY, which needs all rows at once",
    "Aggregate": "an aggregation, which needs all rows at once",
    "Distinct": "DISTINCT, which drops rows",
    "Join": "a join",
    "Generate": "a table function, which changes the number of rows",
    "Sample": "TABLESAMPLE, which drops rows",
    "ScriptTransformation": "TRANSFORM, which runs a command of the operating system",
    "UnresolvedWith": "WITH",
    "WithWindowDefinition": "a window, which needs all rows at once",
    "Union": "UNION",
}
_TABLE: Final = "this_is_the_event"


def vet(section: SavedModel, spark: SparkSession) -> tuple[tuple[Stage, ...], str, dict[str, object] | None]:
    """The stages, the fingerprint and the manifest of a model that may be loaded. ModelError says what is wrong with any other."""
    metadata, _ = stages.read(spark, section.uri)
    for place, found in metadata.items():
        _check_class(section, place, found)
    fingerprint, details = check_fingerprint(section, spark)
    flat = tuple(_with_statement(section, spark, stage) for stage in stages.flatten(section.uri, metadata))
    for stage in flat:
        for part in (stage, *stage.inner):
            _check_params(section.uri, stage, part)
    return flat, fingerprint, details


def check_fingerprint(section: SavedModel, spark: SparkSession) -> tuple[str, dict[str, object] | None]:
    """The fingerprint and the manifest. ModelError when the files are not those that the config or the manifest expects."""
    got, details = manifest.fingerprint(spark, section.uri), manifest.read(spark, section.uri)
    recorded = None if details is None else details.get("sha256")
    for expected, by in ((section.sha256, "model.sha256 in the config"), (recorded, MANIFEST)):
        if expected is not None and expected != got:
            raise tampered(section.uri, expected=expected, got=got, by=by)
    return got, details


def _check_class(section: SavedModel, place: str, found: Mapping[str, Any]) -> None:
    name, uid = found["class"], found["uid"]
    where = f"{section.uri}: {place or 'the top'}: class {name} ({uid})"
    if "/" in uid or ".." in uid:
        raise ModelError(f"{where}: a uid that leads to another folder; save the model again")
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
    return any(name.startswith(prefix) for prefix in prefixes)


def _check_params(uri: str, stage: Stage, part: Stage) -> None:
    where = f"{uri}: {stage}" + ("" if part is stage else f", inside it {part}")
    if part.params.get("handleInvalid") == "skip":
        raise ModelError(f'{where}: handleInvalid="skip" drops rows, so an event would never be answered; save it with handleInvalid="keep", '
                         'or "error": such rows then go to the rejected topic')  # fmt: skip


def _with_statement(section: SavedModel, spark: SparkSession, stage: Stage) -> Stage:
    """A SQLTransformer with the columns that its statement reads and writes; any other stage as it is."""
    if stage.name != "SQLTransformer":
        return stage
    where = f"{section.uri}: {stage}: statement"
    text = str(stage.params.get("statement") or "")
    try:
        session: Any = spark._jsparkSession
        plan = session.sessionState().sqlParser().parsePlan(text.replace("__THIS__", _TABLE))
    except (PySparkException, Py4JJavaError) as broken:
        raise ModelError(f"{where}: not SQL that Spark can parse; expected SELECT ... FROM __THIS__") from broken
    reads: dict[str, None] = {}
    writes: list[str] = []
    _walk(plan, where, reads, writes)
    return Stage(stage.index, stage.class_name, stage.uid, tuple(reads), tuple(writes), stage.params, stage.folder, stage.inner)


def _walk(plan: Any, where: str, reads: dict[str, None], writes: list[str]) -> None:
    """Refuse every operator but SELECT <expressions> FROM __THIS__: this is only parsed text, nothing has run yet."""
    operator = plan.getClass().getSimpleName()
    if operator == "UnresolvedRelation":
        if plan.multipartIdentifier().mkString(".") != _TABLE:
            raise ModelError(f"{where} reads another table; expected SELECT ... FROM __THIS__ alone")
        return
    if operator not in {"Project", "SubqueryAlias"}:
        raise ModelError(
            f"{where} has {_CLAUSES.get(operator, operator)}; expected SELECT <expressions> FROM __THIS__, which gives one row for one event"
        )
    if operator == "Project":
        listed = plan.projectList()
        for expression in (listed.apply(i) for i in range(listed.size())):
            if expression.getClass().getSimpleName() == "Alias":
                writes.append(str(expression.name()))
            _walk_expression(expression, where, reads)
    _walk(plan.child(), where, reads, writes)


def _walk_expression(expression: Any, where: str, reads: dict[str, None]) -> None:
    kind = expression.getClass().getSimpleName()
    if kind == "UnresolvedAttribute":
        parts = expression.nameParts()
        name = str(parts.apply(1 if parts.size() > 1 and parts.apply(0) == _TABLE else 0))
        reads[name] = None
    if kind == "UnresolvedFunction" and str(expression.nameParts().last()).lower() in _REFLECTION:
        raise ModelError(f"{where} calls {expression.nameParts().last()}, which runs any Java method; remove it from the statement")
    if "Subquery" in kind or kind in {"Exists", "ListQuery"}:
        raise ModelError(f"{where} has a subquery; expected SELECT <expressions> FROM __THIS__")
    if "Window" in kind:
        raise ModelError(f"{where} has a window, which needs all rows at once; expected SELECT <expressions> FROM __THIS__")
    children = expression.children()
    for i in range(children.size()):
        _walk_expression(children.apply(i), where, reads)
