"""ONNX models as a Scorer: packages that `streaming package` made, and any .onnx file that somebody brings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
    RuntimeException,
)

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.scorers import files, onnx_parts, standalone
from streaming.scorers.base import ColumnKind, Columns, Scores
from streaming.scorers.files import Package, tampered
from streaming.scorers.onnx_tensors import Input, columns_of, outputs_of, probabilities_of, tensor_of

#: Where a model that `streaming convert` made keeps what its scorer has to know, among its metadata.
MANIFEST: Final = "streaming.manifest"

#: What onnxruntime raises on a model, or on columns, that it cannot take.
BROKEN: Final = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented, RuntimeException)


class _Opened:
    """What both kinds of ONNX models share."""

    def contributions(self, columns: Columns) -> dict[str, NDArray[np.float64]] | None:
        """Per input column what it adds to the log-odds, or to the prediction before its link; float64 (n,). None: not linear."""
        return None


@dataclass(frozen=True)
class PackageScorer(_Opened):
    """A package folder, verified against its manifest."""

    uri: str
    scorer: standalone.Scorer = field(repr=False)

    def inputs(self) -> Mapping[str, ColumnKind]:
        """See :class:`streaming.scorers.base.Scorer`."""
        kinds: Mapping[str, Any] = self.scorer.inputs()
        return kinds

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest of the package."""
        return self.scorer.manifest

    def categories(self) -> Mapping[str, Sequence[str]]:
        """Per text column the values that the model knows."""
        return {column["name"]: column["labels"] for column in self.scorer.manifest["inputs"] if column.get("labels")}

    def score(self, columns: Columns) -> Scores:
        """See :class:`streaming.scorers.base.Scorer`."""
        answers = self._answers(columns)
        return Scores(answers.prediction, answers.probability, answers.error)

    def contributions(self, columns: Columns) -> dict[str, NDArray[np.float64]] | None:
        """Per input column the sum of coefficient * feature over the features made of it; NaN on rows that cannot be scored."""
        linear = self.scorer.manifest.get("linear")
        if linear is None:
            return None
        answers = self._answers(columns)
        if answers.features is None:
            return None
        terms = np.where(np.isnan(answers.prediction)[:, None], np.nan, answers.features * np.asarray(linear["coefficients"]))
        sources = np.asarray(linear["sources"])
        return {name: terms[:, sources == name].sum(axis=1) for name in self.inputs()}

    def _answers(self, columns: Columns) -> standalone.Answers:
        try:
            return self.scorer.score(columns)
        except standalone.PackageError as refused:
            raise ModelError(f"{self.uri}: {refused}") from refused


@dataclass(frozen=True)
class OnnxScorer(_Opened):
    """A bare .onnx file. Null numbers reach it as NaN where it reads floating point numbers; nothing else in it can be null."""

    uri: str
    session: Any = field(repr=False)
    read: tuple[Input, ...]
    #: Places of the outputs: what is predicted, and the probabilities.
    label: int
    probability: int | None
    #: The labels in the order of their indexes, as the metadata `classes` (a JSON list) declares them; empty when it does not.
    classes: tuple[Any, ...] = ()

    def inputs(self) -> Mapping[str, ColumnKind]:
        """See :class:`streaming.scorers.base.Scorer`."""
        return {column.name: column.kind for column in self.read}

    def score(self, columns: Columns) -> Scores:
        """See :class:`streaming.scorers.base.Scorer`. A row that has null where the model cannot take null gets an error."""
        values = {column.name: self._checked(column, columns) for column in self.read}
        n = len(next(iter(values.values())))
        errors: list[str | None] = [None] * n
        feed = {}
        for column in self.read:
            feed[column.name], bad = tensor_of(column, values[column.name])
            for row in np.flatnonzero(bad):
                errors[row] = errors[row] or f"{column.name} is null or cannot be read as {column.element}"
        if n == 0:
            # Zero rows are more than some models take.
            feed = {name: np.zeros((1, *tensor.shape[1:]), tensor.dtype) if tensor.dtype != object else np.full((1, *tensor.shape[1:]), "", object)
                    for name, tensor in feed.items()}  # fmt: skip
        try:
            outputs = self.session.run(None, feed)
        except BROKEN as refused:
            raise ModelError(f"{self.uri}: the model does not take these columns: {first_line(refused)}") from refused
        return self._scores(outputs, n, errors)

    def _checked(self, column: Input, columns: Columns) -> NDArray[Any]:
        if column.name not in columns:
            raise ModelError(f"{self.uri}: no column {column.name!r}; the model reads {', '.join(self.inputs())}")
        values = np.asarray(columns[column.name])
        rank, expected = 2 if column.kind == "vector" else 1, "OU" if column.kind == "text" else "biuf"
        if values.ndim != rank or values.dtype.kind not in expected:
            raise ModelError(f"{self.uri}: column {column.name!r}: expected {column.kind}, got {values.dtype} of {values.ndim} dimensions")
        if rank == 2 and column.size and values.shape[1] != column.size:
            raise ModelError(f"{self.uri}: column {column.name!r}: expected vectors of {column.size} numbers, got {values.shape[1]}")
        return values

    def _scores(self, outputs: Sequence[Any], n: int, errors: list[str | None]) -> Scores:
        probability, names = (None, ()) if self.probability is None else probabilities_of(outputs[self.probability])
        if probability is not None:
            probability = probability[:n]
        answered = np.asarray(outputs[self.label]).reshape(-1)[:n]
        if len(answered) != n:
            raise ModelError(f"{self.uri}: the model gave {len(answered)} predictions for {n} rows; expected one a row")
        prediction = self._indexes(answered, names)
        good = np.isfinite(prediction) & (np.isfinite(probability).all(axis=1) if probability is not None else True)
        for row in np.flatnonzero(~good):
            errors[row] = errors[row] or "the prediction is NaN or infinite"
        bad = np.array([said is not None for said in errors], dtype=bool)
        prediction[bad] = np.nan
        if probability is not None:
            probability[bad] = np.nan
        return Scores(prediction, probability, errors)

    def _indexes(self, answered: NDArray[Any], names: Sequence[Any]) -> NDArray[np.float64]:
        """Labels as the indexes of their classes; numbers as they are, unless the model itself names its classes otherwise."""
        order = list(names) or list(self.classes)
        if answered.dtype.kind in "OUS":
            if not order:
                raise ModelError(f"{self.uri}: the model answers with text and does not say which classes there are; "
                                 "export it with its probabilities (ZipMap), or with class labels in metadata 'classes'")  # fmt: skip
            places = {name: float(i) for i, name in enumerate(order)}
            return np.array([places.get(value, np.nan) for value in answered], dtype=np.float64)
        if order and all(isinstance(name, int) for name in order):
            return np.array([float(order.index(value)) if value in order else np.nan for value in answered.tolist()], dtype=np.float64)
        return answered.astype(np.float64)


def open_scorer(package: Package, section: SavedModel) -> PackageScorer | OnnxScorer:
    """The model of `package`, ready to score. ModelError when it is not the one of `section`, or cannot be opened."""
    return open_package(package, sha256=None if section.sha256 == package.sha256 else section.sha256)


def open_onnx(path: str | Path, *, sha256: str | None = None) -> PackageScorer | OnnxScorer:
    """The model at `path`, see :func:`open_package`. Everything is read now; the files may go afterwards."""
    return open_package(files.read(str(path)), sha256=sha256)


def open_package(package: Package, *, sha256: str | None = None) -> PackageScorer | OnnxScorer:
    """The one .onnx file of `package`: alone, in a folder, or with a MANIFEST.json. ModelError when it cannot be opened.

    `sha256`: expected of the .onnx file. What a portable model says of itself stands inside that file; a manifest beside it
    must say the same.
    """
    model = onnx_file(package).verified(sha256)
    (content,) = model.files.values()
    beside = package.files.get("MANIFEST.json") if package.is_folder else None
    if beside is not None:
        _check_manifest(package.uri, beside, model.sha256)
    return _open(package.uri, content)


def onnx_file(package: Package) -> Package:
    """The one .onnx file of a package. ModelError when there is none, or more."""
    if not package.is_folder:
        return package
    names = [name for name in package.files if name.endswith(".onnx") and "/" not in name]
    if len(names) != 1:
        raise ModelError(f"{package.uri}: expected one .onnx file, got {len(names)} .onnx files")
    return package.file(names[0])


def _check_manifest(uri: str, text: bytes, got: str) -> None:
    try:
        expected = json.loads(text)["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as broken:
        raise ModelError(f"{uri}/MANIFEST.json: not the manifest of a package: {first_line(broken)}; make the package again") from broken
    if got != expected:
        raise tampered(uri, expected=expected, got=got, by="MANIFEST.json", mend="make the package again")


def _open(uri: str, content: bytes) -> PackageScorer | OnnxScorer:
    onnx_parts.check(uri, content)
    options = ort.SessionOptions()
    # One thread: the callers run side by side themselves, and a sum over several threads gives another last bit each time.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except BROKEN as broken:
        raise ModelError(f"{uri}: not an ONNX model that onnxruntime {ort.__version__} can run: {first_line(broken)}; "
                         "export it again, with an older opset if this is about versions") from broken  # fmt: skip
    details = session.get_modelmeta().custom_metadata_map
    if MANIFEST in details:
        return PackageScorer(uri, _portable(uri, details[MANIFEST], content))
    inputs = session.get_inputs()
    if not inputs:
        raise ModelError(f"{uri}: the model has no inputs; it cannot score rows")
    label, probability = outputs_of(uri, session.get_outputs())
    return OnnxScorer(uri, session, columns_of(uri, inputs), label, probability, _declared(uri, details.get("classes")))


def _portable(uri: str, manifest: str, content: bytes) -> standalone.Scorer:
    try:
        return standalone.Scorer.of(json.loads(manifest), content)
    except (ValueError, RecursionError, TypeError, KeyError, standalone.PackageError, *BROKEN) as broken:
        raise ModelError(f"{uri}: what the model says of itself cannot be read: {first_line(broken)}; make the package again") from broken


def _declared(uri: str, classes: str | None) -> tuple[Any, ...]:
    if classes is None:
        return ()
    try:
        declared = json.loads(classes)
    except (ValueError, RecursionError) as broken:
        raise ModelError(f"{uri}: the metadata 'classes' is no JSON list of labels: {broken}") from broken
    return tuple(declared) if isinstance(declared, list) else ()


def first_line(error: BaseException) -> str:
    """The first line of an error of somebody else's."""
    return (str(error).splitlines() or [type(error).__name__])[0]
