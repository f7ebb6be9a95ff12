"""PMML documents as a Scorer: evaluated by PMML4S in a JVM of this process. And what a document reads and answers, for others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal
from xml.parsers.expat import ExpatError, ParserCreate

import numpy as np
from numpy.typing import NDArray
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JJavaError

from streaming.config.sections import SavedModel
from streaming.errors import EnvironmentFailure, ModelError
from streaming.runtime import java
from streaming.scorers import pmml_calls
from streaming.scorers.base import ColumnKind, Columns, Scores
from streaming.scorers.files import Package

#: How PMML's types travel to the evaluator.
Type = Literal["text", "double", "integer", "boolean"]
_TYPES: Final[dict[str, Type]] = {
    "string": "text",
    "double": "double",
    "float": "double",
    "real": "double",
    "integer": "integer",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Description:
    """What a document reads and what it answers."""

    #: Such as TreeModel, for messages.
    element: str
    types: Mapping[str, Type]
    #: The output with the predicted value.
    predicted: str
    #: Labels in the order of their indexes; empty for a model that predicts a number.
    classes: tuple[str, ...]
    #: The outputs with the probabilities of the classes, in their order; empty when the model gives none.
    probabilities: tuple[str, ...]

    def kinds(self) -> dict[str, ColumnKind]:
        """The columns that the model reads."""
        return {name: "text" if kind == "text" else "number" for name, kind in self.types.items()}


def document(package: Package) -> str:
    """The text of a PMML file. ModelError when it is none, has a DOCTYPE, which could make the reader fetch other files, or never ends."""
    if package.is_folder:
        raise ModelError(f"{package.uri}: a folder; expected one .pmml file")
    (content,) = package.files.values()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise ModelError(f"{package.uri}: not UTF-8; expected a PMML document") from broken
    declared, roots = [], []
    parser = ParserCreate()
    parser.StartDoctypeDeclHandler = lambda *_: declared.append(True)
    parser.StartElementHandler = lambda name, _: roots.append(name) if not roots else None
    try:
        # PMML4S reads as far as it can and says nothing of the rest that is missing.
        parser.Parse(content, True)
    except ExpatError as broken:
        raise ModelError(f"{package.uri}: not a PMML document: {broken}; save the model again") from broken
    if declared:
        raise ModelError(f"{package.uri}: has a DOCTYPE, which may name other files; remove it: PMML needs none")
    if roots[0].rsplit(":", 1)[-1] != "PMML":
        raise ModelError(f"{package.uri}: not a PMML document: its first element is {roots[0]}; expected PMML")
    never_ends = pmml_calls.endless(content)
    if never_ends is not None:
        raise ModelError(f"{package.uri}: {never_ends}; no row could be scored")
    return text


def describe(uri: str, model: Any) -> Description:
    """The description of PMML4S's `model`, a Java object whichever bridge it came over. ModelError when a stream cannot use it."""
    types: dict[str, Type] = {}
    for read in model.inputFields():
        name, kind = str(read.name()), str(read.dataType())
        if kind not in _TYPES:
            raise ModelError(f"{uri}: field {name!r} is {kind}; a model on a stream reads {', '.join(_TYPES)}")
        types[name] = _TYPES[kind]
    classes = tuple(str(value.toVal()) for value in model.classes())
    predicted, chances = "", dict[str, str]()
    for output in model.outputFields():
        feature, name = str(output.feature()), str(output.name())
        if feature == "predictedValue" and not predicted:
            predicted = name
        if feature == "probability" and output.value().isDefined():
            chances.setdefault(str(output.value().get()), name)
    element = str(model.modelElement())
    if not predicted:
        raise ModelError(f"{uri}: {element} has no predicted value")
    complete = bool(classes) and set(classes) <= set(chances)
    return Description(element, types, predicted, classes, tuple(chances[label] for label in classes) if complete else ())


@dataclass(frozen=True)
class PmmlScorer:
    """A PMML document, ready to score. Made by :func:`open_pmml`."""

    uri: str
    description: Description
    model: Any = field(repr=False)

    def inputs(self) -> Mapping[str, ColumnKind]:
        """The active fields of the mining schema."""
        return self.description.kinds()

    def score(self, columns: Columns) -> Scores:
        """See :class:`streaming.scorers.base.Scorer`. Null and NaN are PMML's missing values."""
        about = self.description
        values = {name: self._column(name, columns) for name in about.types}
        n = len(next(iter(values.values()))) if values else 0
        prediction: NDArray[np.float64] = np.full(n, np.nan)
        probability = np.full((n, len(about.classes)), np.nan) if about.probabilities else None
        errors: list[str | None] = [None] * n
        records = [dict(zip(values, row, strict=True)) for row in zip(*(label.tolist() for label in values.values()), strict=True)]
        for row, answer in enumerate(self._answers([_sent(about, record) for record in records])):
            label, chances = _read(about, answer)
            if label is None or (chances is not None and None in chances) or _infinite(records[row]):
                errors[row] = _why(about, records[row])
                continue
            prediction[row] = label
            if probability is not None:
                probability[row] = chances
        return Scores(prediction, probability, errors)

    def _column(self, name: str, columns: Columns) -> NDArray[Any]:
        values = columns.get(name)
        if values is None or values.ndim != 1 or (values.dtype == object) != (self.description.types[name] == "text"):
            raise ModelError(f"{self.uri}: expected a column {name!r} of kind {self.description.kinds()[name]}")
        return values

    def _answers(self, sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the evaluator says of all rows; if it fails on one of them, of each by itself, with nothing for the bad ones."""
        if not sent:
            return []
        try:
            return list(json.loads(self.model.predict(json.dumps(sent))))
        except Py4JJavaError:
            if len(sent) == 1:
                return [{}]
            half = len(sent) // 2
            return self._answers(sent[:half]) + self._answers(sent[half:])


def _infinite(record: Mapping[str, Any]) -> bool:
    return any(isinstance(value, float) and np.isinf(value) for value in record.values())


def _sent(about: Description, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without missing values, each number as the document has it."""
    sent: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            continue
        kind = about.types[name]
        if kind == "integer" and not float(value).is_integer():
            continue
        sent[name] = int(value) if kind == "integer" else bool(value) if kind == "boolean" else value
    return sent


def _read(about: Description, answer: Mapping[str, Any]) -> tuple[float | None, Sequence[float | None] | None]:
    said = answer.get(about.predicted)
    chances = [answer.get(name) for name in about.probabilities] or None
    if said is None:
        return None, chances
    if about.classes:
        return (float(about.classes.index(str(said))) if str(said) in about.classes else None), chances
    try:
        number = float(said)
    except ValueError:
        return None, chances
    return (number if np.isfinite(number) else None), chances


def _why(about: Description, record: Mapping[str, Any]) -> str:
    odd = [f"{name} is null or NaN" for name, value in record.items() if value is None or value != value]
    odd += [f"{name} is infinite" for name, value in record.items() if isinstance(value, float) and np.isinf(value)]
    return f"{about.element}: {'; '.join(odd) or 'gives no prediction for these values'}"


def open_scorer(package: Package, section: SavedModel) -> PmmlScorer:
    """The document of `package`, ready to score. ModelError when it is not the one of `section`, or cannot be read."""
    return open_pmml(package.verified(section.sha256))


def open_pmml(package: Package) -> PmmlScorer:
    """The document of a checked package, ready to score. Starts a JVM the first time. ModelError when it cannot be read."""
    text = document(package)
    try:
        model = _gateway().jvm.org.pmml4s.model.Model.fromString(text)
        model.setSupplementOutput(True)
    except Py4JJavaError as broken:
        first = str(broken.java_exception).splitlines()[0]
        raise ModelError(f"{package.uri}: PMML4S cannot read it: {first}; save the model again") from broken
    return PmmlScorer(package.uri, describe(package.uri, model), model)


def jars(patterns: Sequence[str]) -> list[Path]:
    """The jars of the Python package pypmml that match: PMML4S itself is not on every Maven mirror. EnvironmentFailure without it."""
    spec = find_spec("pypmml")
    paths = [] if spec is None else [jar for pattern in patterns for jar in sorted((Path(str(spec.origin)).parent / "jars").glob(pattern))]
    if len(paths) < len(patterns):
        raise EnvironmentFailure("pmml: the Python package 'pypmml', which brings PMML4S, is not installed; "
                                 "install it with: pip install 'streaming-scoring[pmml]'")  # fmt: skip
    return paths


@lru_cache(maxsize=1)
def _gateway() -> Any:
    """A JVM with PMML4S, for as long as this process lives. It asks for a secret, so that nobody else on the machine can use it."""
    classes = os.pathsep.join(map(str, jars(("*.jar",))))
    options = {"classpath": classes, "die_on_exit": True, "enable_auth": True, "java_path": str(java.java_command())}
    port, token = launch_gateway(**options)
    return JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token, auto_convert=True))
