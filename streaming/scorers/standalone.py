"""Scores a packaged model with NumPy and onnxruntime alone. The same file stands in every package as scorer.py.

from scorer import Scorer
scorer = Scorer("path/of/the/package")
scorer.score_rows([{"contract": "One year", "tenure": 12}])

python scorer.py < rows.jsonl            one JSON object a line in, one a line out
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray


class PackageError(Exception):
    """The package is not complete, was changed, or does not fit the columns it is asked to score."""


class Answers(NamedTuple):
    """What n rows got. A row has a prediction or an error."""

    #: float64 (n,), NaN on the rows with an error. A classifier: the index of the class.
    prediction: NDArray[np.float64]
    #: float64 (n, classes) or None.
    probability: NDArray[np.float64] | None
    #: Per row None or why it could not be scored.
    error: list[str | None]
    #: float64 (n, features) or None: the vector inside the model.
    features: NDArray[np.float64] | None


def spelled(value: Any) -> str:
    """A value as text, spelled as Spark's cast to STRING does: 0, 1.5, 1.0E10, true."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if not isinstance(value, (float, np.floating)):
        return str(value)
    value = float(value)
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    numerals, point, minus = "".join(map(str, digits)).rstrip("0"), len(digits) + int(exponent), "-" if sign else ""
    if not numerals:
        return minus + "0.0"
    if 1e-3 <= abs(value) < 1e7:
        whole, rest = (numerals[:point].ljust(point, "0"), numerals[point:]) if point > 0 else ("0", "0" * -point + numerals)
        return f"{minus}{whole}.{rest or '0'}"
    return f"{minus}{numerals[0]}.{numerals[1:] or '0'}E{point - 1}"


class Scorer:
    """A package, opened and verified. Safe to call from several threads."""

    def __init__(self, folder: str | Path = ".", *, threads: int = 1) -> None:
        """Open the package in `folder`. PackageError when a file is missing or model.onnx is not the one of the manifest."""
        where = Path(folder)
        try:
            manifest = json.loads((where / "MANIFEST.json").read_text(encoding="utf-8"))
            content = (where / "model.onnx").read_bytes()
            expected = manifest["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as broken:
            raise PackageError(f"{where}: not a complete package (model.onnx and MANIFEST.json): {broken!r}") from broken
        got = hashlib.sha256(content).hexdigest()
        if got != expected:
            raise PackageError(f"{where}/model.onnx was changed: expected sha256 {expected}, got {got}; copy the package again")
        self._start(manifest, content, threads)

    @classmethod
    def of(cls, manifest: dict[str, Any], content: bytes, *, threads: int = 1) -> "Scorer":
        """A scorer of a manifest and the bytes of an ONNX model that belong together."""
        made = cls.__new__(cls)
        made._start(manifest, content, threads)
        return made

    def _start(self, manifest: dict[str, Any], content: bytes, threads: int) -> None:
        try:
            self._inputs: list[dict[str, Any]] = list(manifest["inputs"])
            self._null_text: str = manifest["null_text"]
            self._failures: list[str] = list(manifest["failures"])
        except (KeyError, TypeError) as broken:
            raise PackageError(f"the manifest is not complete: {broken!r}") from broken
        self.manifest = manifest
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def inputs(self) -> dict[str, str]:
        """The columns that the model reads: name -> number, text or vector."""
        return {column["name"]: column["kind"] for column in self._inputs}

    def score(self, columns: Mapping[str, NDArray[Any]]) -> Answers:
        """Score n rows given as arrays: float64 with NaN for null, objects with None for null, or (n, size) for a vector."""
        feed = {column["name"]: self._tensor(column, columns) for column in self._inputs}
        lengths = {len(values) for values in feed.values()}
        if len(lengths) > 1:
            raise PackageError(f"the columns have different lengths: {sorted(lengths)}")
        if lengths == {0}:
            feed = {column["name"]: _one_row(column) for column in self._inputs}
        outputs = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        if lengths == {0}:
            outputs = {name: values[:0] for name, values in outputs.items()}
        return self._answers(outputs)

    def _answers(self, outputs: Mapping[str, Any]) -> Answers:
        prediction = np.asarray(outputs["prediction"], dtype=np.float64).reshape(-1)
        probability, failed = outputs.get("probability"), outputs.get("failed")
        if probability is not None:
            probability = np.asarray(probability, dtype=np.float64)
        good = np.isfinite(prediction) & (np.isfinite(probability).all(axis=1) if probability is not None else True)
        numbers = np.zeros(len(prediction), np.int64) if failed is None else np.asarray(failed).reshape(-1)
        errors: list[str | None] = [None] * len(prediction)
        for row in np.flatnonzero((numbers > 0) | ~good):
            errors[row] = self._failures[numbers[row] - 1] if numbers[row] > 0 else "the prediction is NaN or infinite"
            prediction[row] = math.nan
            if probability is not None:
                probability[row] = math.nan
        return Answers(prediction, probability, errors, outputs.get("features"))

    def _tensor(self, column: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        name, kind = column["name"], column["kind"]
        if name not in columns:
            raise PackageError(f"no column {name!r}; the model reads {', '.join(self.inputs())}")
        values = np.asarray(columns[name])
        if kind == "vector":
            size = column["size"]
            if values.ndim != 2 or values.dtype.kind not in "biuf" or (values.shape[1] != size and len(values)):
                raise PackageError(f"column {name!r}: expected numbers of shape (n, {size}), got {values.dtype} {values.shape}")
            return np.ascontiguousarray(values, dtype=np.float64)
        expected = "OU" if kind == "text" else "biuf"
        if values.ndim != 1 or values.dtype.kind not in expected:
            raise PackageError(f"column {name!r}: expected {kind} of shape (n,), got {values.dtype} {values.shape}")
        if kind == "number":
            return np.ascontiguousarray(values, dtype=np.float64).reshape(-1, 1)
        texts = [self._null_text if value is None or value != value else spelled(value) for value in values]
        return np.array(texts, dtype=object).reshape(-1, 1)

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Score JSON-like rows. A missing field is null. A row with a field of the wrong type gets an error of its own."""
        wrong = [self._problem(row) for row in rows]
        good = [row for row, problem in zip(rows, wrong, strict=True) if problem is None]
        answers = self.score({column["name"]: self._column(column, good) for column in self._inputs})
        replies, place, classes = [], 0, self.manifest.get("classes")
        for problem in wrong:
            reply: dict[str, Any] = {"prediction": None, "probability": None, "error": problem}
            if problem is None:
                reply["error"] = answers.error[place]
                if reply["error"] is None:
                    reply["prediction"] = float(answers.prediction[place])
                    reply["probability"] = None if answers.probability is None else answers.probability[place].tolist()
                    if classes:
                        reply["label"] = classes[int(answers.prediction[place])]
                place += 1
            replies.append(reply)
        return replies

    def _problem(self, row: Mapping[str, Any]) -> str | None:
        if not isinstance(row, Mapping):
            return "expected a JSON object"
        for column in self._inputs:
            value, kind = row.get(column["name"]), column["kind"]
            if value is None:
                continue
            number = isinstance(value, (bool, int, float, np.number, np.bool_))
            if kind == "vector":
                fits = isinstance(value, (list, tuple, np.ndarray)) and len(value) == column["size"]
                fits = fits and all(x is None or isinstance(x, (bool, int, float, np.number)) for x in value)
            else:
                fits = number or (kind == "text" and isinstance(value, str))
            if not fits:
                expected = f"a list of {column['size']} numbers" if kind == "vector" else f"a {kind}" if kind == "number" else kind
                return f"{column['name']}: expected {expected}, got {type(value).__name__}"
        return None

    def _column(self, column: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> NDArray[Any]:
        values = [row.get(column["name"]) for row in rows]
        if column["kind"] == "text":
            return np.array([None if value is None else spelled(value) for value in values] or [], dtype=object)
        if column["kind"] == "number":
            return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
        matrix = np.full((len(values), column["size"]), math.nan)
        for place, value in enumerate(values):
            if value is not None:
                matrix[place] = [math.nan if x is None else float(x) for x in value]
        return matrix


def _one_row(column: Mapping[str, Any]) -> NDArray[Any]:
    if column["kind"] == "text":
        return np.array([[""]], dtype=object)
    return np.zeros((1, column.get("size") or 1))


def _batches(lines: Iterable[str], size: int) -> Iterable[list[Any]]:
    batch: list[Any] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            batch.append(json.loads(line))
        except ValueError:
            batch.append(None)  # not an object: scored as an error of its own
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def main(argv: Sequence[str] | None = None) -> int:
    """JSON lines from stdin, answers to stdout. Exit code 0, or 2 when the package is broken."""
    parser = argparse.ArgumentParser(description="Score JSON lines from standard input with the packaged model.")
    parser.add_argument(
        "--package", type=Path, default=Path(__file__).resolve().parent, help="folder of the package; that of this file by default"
    )
    parser.add_argument("--batch", type=int, default=1000, help="rows scored together")
    arguments = parser.parse_args(argv)
    try:
        scorer = Scorer(arguments.package)
        for batch in _batches(sys.stdin, max(1, arguments.batch)):
            for reply in scorer.score_rows(batch):
                sys.stdout.write(json.dumps(reply, allow_nan=False) + "\n")
            sys.stdout.flush()
    except PackageError as broken:
        sys.stderr.write(f"error: {broken}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
