"""A saved pipeline as its metadata describes it, read without Spark loading (and so running) anything of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pyspark.sql.types import ArrayType, DataType, DoubleType, NullType, StringType, StructField, StructType

from streaming.errors import ModelError
from streaming.models.copied import Copy, is_plain

Task = Literal["classification", "regression", "clustering"]

#: What MLWriter names the one file of a metadata folder: no compression, nothing hidden, so Spark and we read the same line.
_PART: Final = re.compile(r"part-\d{5}[A-Za-z0-9-]*(\.txt)?")

#: Stages whose inputs are not vectors, by the type they read. Every other stage of Spark's reads vectors.
_NUMBERS: Final = frozenset({"VectorAssembler", "ImputerModel", "Bucketizer", "Binarizer", "OneHotEncoderModel", "TargetEncoderModel"}) | {
    "Interaction", "IndexToString",
}  # fmt: skip
_TEXT: Final = frozenset({"Tokenizer", "RegexTokenizer"})
_WORDS: Final = frozenset({"NGram", "StopWordsRemover", "HashingTF", "CountVectorizerModel", "Word2VecModel"})
_ANYTHING: Final = frozenset({"StringIndexerModel", "FeatureHasher", "SQLTransformer"})
#: Stages that change their input column in place.
_IN_PLACE: Final = frozenset({"VectorSizeHint", "VectorAttributeRewriter"})
#: The one stage whose data is saved by Spark's older API, with a description of its own: (stage, what its data is called there).
_OLDER: Final = ("org.apache.spark.ml.clustering.BisectingKMeansModel", "org.apache.spark.mllib.clustering.BisectingKMeansModel")
_PIPELINES: Final = frozenset({"org.apache.spark.ml.PipelineModel", "pyspark.ml.pipeline.PipelineModel"})
_INPUTS: Final = ("inputCol", "featuresCol", "offsetCol", "vectorCol")
_OUTPUTS: Final = ("outputCol", "predictionCol", "rawPredictionCol", "probabilityCol", "leafCol", "linkPredictionCol", "quantilesCol",
                   "topicDistributionCol")  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One stage of a saved pipeline, nested pipelines flattened: what it is called, what it reads and what it writes."""

    index: int
    class_name: str
    uid: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: Parameters by name, defaults included.
    params: Mapping[str, Any] = field(repr=False, compare=False)
    #: The folder of the stage, relative to the model's.
    folder: str = ""
    #: The stages inside this one, where Spark keeps them to itself (RFormulaModel).
    inner: tuple[Stage, ...] = ()

    @property
    def name(self) -> str:
        """The class name without its package."""
        return self.class_name.rsplit(".", 1)[-1]

    @property
    def builtin(self) -> bool:
        """True for Spark's own classes, whose behaviour is known."""
        return self.class_name.startswith(("org.apache.spark.ml.", "pyspark.ml."))

    def __str__(self) -> str:
        return f"stage {self.index} {self.name} ({self.uid})"

    def flow(self) -> str:
        """The stage for the text of a rejected row: number, class, columns."""
        short = [", ".join(names[:3]) + (", ..." if len(names) > 3 else "") for names in (self.inputs, self.outputs)]
        number = f"stage {self.index} " if self.index >= 0 else ""
        return f"{number}{self.name} ({short[0]} -> {short[1]})"


def read(copy: Copy) -> dict[str, Mapping[str, Any]]:
    """Every metadata of the model: folder -> parsed JSON. ModelError when there is none at the top, or one is not what Spark writes."""
    folders: dict[str, list[str]] = {}
    for path in copy.digests:
        if not is_plain(path):
            raise ModelError(f"{copy.uri}: a file called {path!r}; expected letters, digits, '.', '_' and '-', as Spark writes them; "
                             "save the model again")  # fmt: skip
        if (match := re.fullmatch(r"(?:(.*)/)?metadata/(.+)", path)) and not match[2].startswith((".", "_")):
            folders.setdefault(match[1] or "", []).append(match[2])
    if "" not in folders:
        raise ModelError(f"{copy.uri}: no metadata folder; expected a model saved with model.write().save(uri); check model.uri")
    described = {place: _parsed(copy, place, names) for place, names in folders.items()}
    stages = {place: stage for place, stage in described.items() if not _is_older_data(described, place)}
    for place, stage in stages.items():
        if not _is_stage(stage):
            raise ModelError(
                f"{_where(copy, place)}: expected the JSON of a Spark ML stage with 'class', 'uid' and parameters; save the model again"
            )
    return stages


def _is_older_data(described: Mapping[str, Mapping[str, Any]], place: str) -> bool:
    """True for the folder `data` of a stage that the older API saves: it names a class, but only to be compared, not to be loaded."""
    stage, _, last = place.rpartition("/")
    classes = (described.get(stage, {}).get("class"), described[place].get("class"))
    return last == "data" and classes == _OLDER


def _where(copy: Copy, place: str) -> str:
    return f"{copy.uri.rstrip('/')}/{_inner(place)}"


def _inner(place: str) -> str:
    return "/".join(part for part in (place, "metadata") if part)


def _parsed(copy: Copy, place: str, names: Sequence[str]) -> Mapping[str, Any]:
    where = _where(copy, place)
    if len(names) != 1 or not _PART.fullmatch(names[0]):
        raise ModelError(
            f"{where}: expected exactly one file, part-00000, as Spark writes it; got {', '.join(sorted(names))}; save the model again"
        )
    try:
        lines = [line for line in copy.read(f"{_inner(place)}/{names[0]}").decode().split("\n") if line.strip()]
        if len(lines) != 1:
            raise ModelError(f"{where}: expected one line of JSON, got {len(lines)}; save the model again")
        stage = json.loads(lines[0], object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as broken:
        why = "nested too deeply" if isinstance(broken, RecursionError) else str(broken)
        raise ModelError(f"{where}: not the JSON of a Spark ML stage: {why}; save the model again") from broken
    if not isinstance(stage, dict):
        raise ModelError(f"{where}: expected the JSON of a Spark ML stage with 'class', 'uid' and parameters; save the model again")
    return stage


def _is_stage(stage: Mapping[str, Any]) -> bool:
    """True for metadata of the shape that Spark writes: everything that is read here has the type that is expected of it."""
    maps = [stage.get(name, {}) for name in ("defaultParamMap", "paramMap")]
    if not all(isinstance(stage.get(key), str) for key in ("class", "uid")) or not all(isinstance(each, dict) for each in maps):
        return False
    params = {**maps[0], **maps[1]}
    single = all(isinstance(params.get(key), str | None) for key in (*_INPUTS, *_OUTPUTS))
    lists = (params.get(key, []) for key in ("inputCols", "outputCols", "stageUids"))
    return single and all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in lists)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two values under one name: another parser may take the other one, so what was vetted would not be what is loaded."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return entries


def flatten(uri: str, metadata: Mapping[str, Mapping[str, Any]]) -> tuple[Stage, ...]:
    """The stages in the order in which a row passes them. ModelError when the folders do not fit what the pipelines say."""
    return tuple(_numbered(_flatten(uri, metadata, "")))


def _numbered(stages: Sequence[Stage]) -> list[Stage]:
    return [Stage(i, s.class_name, s.uid, s.inputs, s.outputs, s.params, s.folder, s.inner) for i, s in enumerate(stages)]


def _flatten(uri: str, metadata: Mapping[str, Mapping[str, Any]], place: str) -> list[Stage]:
    described = metadata[place]
    if described["class"] not in _PIPELINES:
        return [_stage(uri, metadata, place)]
    below = f"{place}/stages/" if place else "stages/"
    uids = list(described.get("paramMap", {}).get("stageUids", []))
    # Spelled as Spark spells them, so that there is one folder only that it can take for the stage of a number.
    named = [f"{below}{i:0{len(str(len(uids)))}d}_{uid}" for i, uid in enumerate(uids)]
    there = sorted(other for other in metadata if other.startswith(below) and "/" not in other.removeprefix(below))
    if sorted(named) != there:
        raise ModelError(f"{uri}/{place}: the pipeline names the stages {', '.join(uids)}; its folder has "
                         f"{', '.join(other.removeprefix(below) for other in there)}; save the model again")  # fmt: skip
    return [stage for each in named for stage in _flatten(uri, metadata, each)]


def _stage(uri: str, metadata: Mapping[str, Mapping[str, Any]], place: str) -> Stage:
    described = metadata[place]
    params = {**described.get("defaultParamMap", {}), **described.get("paramMap", {})}
    nested = f"{place}/pipelineModel".lstrip("/")
    inner = tuple(_numbered(_flatten(uri, metadata, nested))) if nested in metadata else ()
    name = described["class"].rsplit(".", 1)[-1]
    reads = [params[key] for key in _INPUTS if params.get(key) and "inputCols" not in params]
    reads += params.get("inputCols", [])
    writes = [params[key] for key in _OUTPUTS if params.get(key) and not (key == "outputCol" and "outputCols" in params)]
    writes += params.get("outputCols", [])
    if inner:
        live = needed(inner, {str(params.get("featuresCol"))})
        reads, writes = list(inputs_of(live)), [str(params.get("featuresCol"))]
    if name in _IN_PLACE:
        writes = list(reads)
    return Stage(0, described["class"], described["uid"], tuple(map(str, reads)), tuple(map(str, writes)), params, place, inner)


def needed(stages: Sequence[Stage], wanted: set[str]) -> tuple[Stage, ...]:
    """The stages without which the columns `wanted` cannot be computed: not the label's indexer, nor what follows a prediction."""
    kept: list[Stage] = []
    for stage in reversed(stages):
        if wanted & set(stage.outputs) or not stage.builtin or stage.name == "SQLTransformer":
            kept.append(stage)
            wanted = (wanted - set(stage.outputs)) | set(stage.inputs)
    return tuple(reversed(kept))


def inputs_of(stages: Sequence[Stage]) -> dict[str, DataType]:
    """The columns that `stages` read from outside, with the types they accept."""
    made: set[str] = set()
    inputs: dict[str, DataType] = {}
    for stage in stages:
        for name, accepted in zip(stage.inputs, _types(stage), strict=True):
            if name not in made and isinstance(inputs.get(name, NullType()), NullType):
                inputs[name] = accepted
        made |= set(stage.outputs)
    return inputs


def _types(stage: Stage) -> list[DataType]:
    if stage.inner:
        inner = inputs_of(needed(stage.inner, {str(stage.params.get("featuresCol"))}))
        return [inner[name] for name in stage.inputs]
    offset = stage.params.get("offsetCol")
    return [DoubleType() if name == offset else _accepts(stage) for name in stage.inputs]


def _accepts(stage: Stage) -> DataType:
    if not stage.builtin or stage.name in _ANYTHING:
        return NullType()
    if stage.name in _NUMBERS:
        return DoubleType()
    if stage.name in _TEXT:
        return StringType()
    # A vector cannot stand in JSON; an array of numbers can, and is made a vector before the first stage.
    return ArrayType(StringType()) if stage.name in _WORDS else ArrayType(DoubleType())


def schema(columns: Mapping[str, DataType]) -> StructType:
    """The columns as a schema."""
    return StructType([StructField(name, accepted) for name, accepted in columns.items()])


def predictor(uri: str, stages: Sequence[Stage]) -> tuple[Stage, Task]:
    """The stage that predicts, and what. ModelError when none does."""
    for stage in reversed(stages):
        for kind in ("classification", "regression", "clustering"):
            if f".ml.{kind}." in stage.class_name and stage.params.get("predictionCol"):
                return stage, kind
    # A class from elsewhere says what it is by its parameters.
    for stage in reversed(stages):
        if not stage.builtin and stage.params.get("predictionCol"):
            return stage, "classification" if stage.params.get("probabilityCol") else "regression"
    raise ModelError(f"{uri}: no stage predicts: {', '.join(map(str, stages)) or 'the pipeline is empty'}; expected a pipeline that ends in a fitted "
                     "classifier, regression or clustering with a predictionCol")  # fmt: skip
