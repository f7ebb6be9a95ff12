"""A model as a folder that scores anywhere: Python, NumPy and onnxruntime, no Spark and no Java."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from streaming import adapters
from streaming.config.sections import SavedModel
from streaming.convert.converted import Converted
from streaming.convert.original import Original
from streaming.errors import ModelError
from streaming.runtime.files import write_whole
from streaming.scorers import columns as columns_of
from streaming.scorers import compare, rows, standalone
from streaming.scorers.base import Columns, Scores
from streaming.scorers.onnx import BROKEN, MANIFEST, first_line

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

FORMAT: Final = "streaming-package"
FORMAT_VERSION: Final = 1
_VERSIONS: Final = ("numpy", "onnx", "onnxruntime", "pyspark", "scikit-learn", "skl2onnx", "streaming-scoring")


@dataclass(frozen=True)
class Portable:
    """A portable form that has been compared with its original."""

    content: bytes
    manifest: Mapping[str, Any]
    #: Generated rows first, then those of the user.
    reports: Sequence[compare.Agreement]


def build(section: SavedModel, spark: SparkSession | None, out: str | Path) -> Path:
    """Write the model of `section` as a package at `out`, whole or not at all. Returns the folder.

    The package is compared with the original on generated rows first. `spark` is needed for models of format spark
    only. ModelError when the model has no portable form, when it answers otherwise, or when `out` exists.
    """
    return write(make(section, spark), out)


def make(section: SavedModel, spark: SparkSession | None, *, data: pa.Table | None = None, n_rows: int = compare.ROWS) -> Portable:
    """Convert the model and prove it on `n_rows` generated rows and on those of `data`. ModelError when it cannot be, or is not, equal."""
    original: Original = adapters.original_of(section.format).original(section, spark)
    converted = original.convert()
    bare = converted.model.SerializeToString()
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": section.name,
        "version": section.version,
        **converted.manifest(),
        "source": {"format": section.format, "uri": section.uri, "sha256": original.sha256, "manifest": original.manifest},
        "packages": _packages(),
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    # The proof is about what is shipped: the same bytes, scored by the same code.
    try:
        scorer = standalone.Scorer.of(described, bare)
    except BROKEN as refused:
        raise ModelError(f"{section.uri}: onnxruntime cannot run the portable form: {first_line(refused)}") from refused
    asked = [rows.generate(n_rows, converted.kinds, labels=converted.labels, sizes=converted.sizes, types=converted.types)]
    if data is not None and data.num_rows:
        asked.append(dict(columns_of.from_arrow(data, converted.kinds)))
    reports = [_proven(section, original, converted, scorer, each) for each in asked]
    if all(report.rejected == report.rows for report in reports):
        raise ModelError(
            f"{section.uri}: the model answers none of {sum(report.rows for report in reports)} rows, so that nothing can be compared; "
            "give rows that it can score with --data"
        )
    described["parity"] = [{"rows": r.rows, "rejected": r.rejected, "largest": dict(r.largest), "tolerance": r.tolerance} for r in reports]
    embedded = converted.model.metadata_props.add()
    embedded.key, embedded.value = MANIFEST, json.dumps(described, default=str)
    content = converted.model.SerializeToString()
    return Portable(content, {**described, "sha256": hashlib.sha256(content).hexdigest()}, reports)


def _proven(section: SavedModel, original: Original, converted: Converted, scorer: standalone.Scorer, asked: Columns) -> compare.Agreement:
    answers = scorer.score(asked)
    portable = Scores(answers.prediction, answers.probability, answers.error)
    agreement = compare.compare(original.score(asked, converted), portable, classes=converted.is_classifier, tolerance=original.tolerance)
    return compare.demand(agreement, section.uri)


def _packages() -> dict[str, str]:
    versions = {}
    for name in _VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write(portable: Portable, out: str | Path) -> Path:
    """The folder `out`: model.onnx, MANIFEST.json, scorer.py, requirements.txt, README.md. Appears whole or not at all."""
    target = Path(out)
    if target.exists():
        raise ModelError(f"{target}: exists; packages are never changed: give another --out, or remove it first")
    try:
        with write_whole(target) as partial:
            _fill(partial, portable)
    except OSError as refused:
        raise ModelError(f"{target}: cannot be written: {refused.strerror}; give another --out") from refused
    return target


def _fill(folder: Path, portable: Portable) -> None:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(portable.content)
    (folder / "MANIFEST.json").write_text(json.dumps(portable.manifest, indent=2, default=str, ensure_ascii=False), encoding="utf-8")
    shutil.copyfile(standalone.__file__, folder / "scorer.py")
    (folder / "requirements.txt").write_text(_requirements(portable.manifest), encoding="utf-8")
    (folder / "README.md").write_text(_readme(portable.manifest), encoding="utf-8")


def _requirements(manifest: Mapping[str, Any]) -> str:
    return "".join(f"{name}=={manifest['packages'][name]}\n" for name in ("numpy", "onnxruntime"))


_EXAMPLE: Final[Mapping[str, Any]] = {"number": 1.0, "text": "text"}


def _readme(manifest: Mapping[str, Any]) -> str:
    def example(column: Mapping[str, Any]) -> Any:
        if column["kind"] == "vector":
            return [0.0] * int(column["size"])
        return (column.get("labels") or [_EXAMPLE[column["kind"]]])[0]

    row = json.dumps({column["name"]: example(column) for column in manifest["inputs"]}, ensure_ascii=False)
    listed = "\n".join(f"| `{column['name']}` | {column['kind']} |" for column in manifest["inputs"])
    classes = manifest["classes"]
    meaning = (
        f"the index of the class: {', '.join(f'{i} = {label}' for i, label in enumerate(classes))}"
        if classes
        else "the answer of the model"
    )
    return f"""# {manifest["name"]} {manifest["version"]}

A model that needs Python 3.10 or newer, NumPy and onnxruntime, and nothing else.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    echo '{row}' | venv/bin/python scorer.py

One JSON object a line in, one a line out: `prediction` ({meaning}), `probability` where the model gives one, and
`error`, which says why a row could not be scored. A field that is missing is null.

    from scorer import Scorer
    scorer = Scorer("path/of/this/folder")
    scorer.score_rows([{{...}}])                          # rows
    scorer.score({{"column": numpy_array, ...}})           # columns: NaN or None where null

| column | kind |
|---|---|
{listed}

`MANIFEST.json` says where the model comes from, and how far it agreed with the original. `scorer.py` refuses a
`model.onnx` that is not the one of the manifest.
"""


def as_file(portable: Portable, out: str | Path) -> Path:
    """The ONNX model alone as the file `out`; what its scorer has to know is among its metadata. Whole or not at all."""
    target = Path(out)
    with write_whole(target) as partial:
        partial.write_bytes(portable.content)
    return target
