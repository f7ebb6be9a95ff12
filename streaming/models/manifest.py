"""The manifest beside a saved model, and the fingerprint of its files: wherever Hadoop's FileSystem reaches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from streaming.errors import ModelError
from streaming.scorers.files import MANIFEST, is_counted, of_tree, signed

#: 1: the fingerprint is that of the files alone. 2: it is also that of what the manifest says, labels and types among it.
FORMAT_VERSION: Final = 2

#: What the model's rows looked like, see :mod:`streaming.monitor.baseline`.
BASELINE: Final = "baseline_statistics"

#: How much of a file crosses into Python at once.
CHUNK: Final = 4 << 20


def fingerprint(spark: SparkSession, uri: str) -> str:
    """The sha256 of the model folder, see :func:`streaming.scorers.files.of_tree`. ModelError when there is no such folder."""
    return of_tree(_digests(spark, uri), signed(read(spark, uri)))


def _digests(spark: SparkSession, uri: str) -> dict[str, bytes]:
    return {path: _digest(spark, f"{uri.rstrip('/')}/{path}") for path in files(spark, uri) if is_counted(path)}


def _digest(spark: SparkSession, uri: str) -> bytes:
    content = hashlib.sha256()
    for chunk in chunks(spark, uri):
        content.update(chunk)
    return content.digest()


def write(spark: SparkSession, uri: str, details: Mapping[str, object]) -> str:
    """Write MANIFEST.json into the model folder: `details`, the sha256 of the files and the format version. Returns the sha256.

    Overwrites an older manifest. ModelError when there is no model at `uri`.
    """
    plain: dict[str, Any] = json.loads(json.dumps({**details, "format_version": FORMAT_VERSION}, default=str))
    sha256 = of_tree(_digests(spark, uri), signed(plain))
    text = _written({**plain, "sha256": sha256})
    fs, path = at(spark, f"{uri.rstrip('/')}/{MANIFEST}")
    stream = fs.create(path, True)
    try:
        stream.write(bytearray(text.encode()))
    finally:
        stream.close()
    return sha256


def _written(details: Mapping[str, object]) -> str:
    """The JSON for people to read; thousands of counts are one line of it, the last."""
    plain = {name: value for name, value in details.items() if name != BASELINE}
    text = json.dumps(plain, indent=2, default=str)
    if details.get(BASELINE) is None:
        return text
    return f'{text[:-2]},\n  "{BASELINE}": {json.dumps(details[BASELINE], default=str)}\n}}'


def read(spark: SparkSession, uri: str) -> dict[str, Any] | None:
    """The manifest of the model at `uri`, or None when it has none. ModelError when it cannot be read as JSON."""
    where = f"{uri.rstrip('/')}/{MANIFEST}"
    fs, path = at(spark, where)
    if not fs.exists(path):
        return None
    return parsed(where, content(spark, where))


def parsed(where: str, text: bytes) -> dict[str, Any]:
    """The manifest in the file at `where`. ModelError when it is no JSON object."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as broken:
        why = "nested too deeply" if isinstance(broken, RecursionError) else str(broken)
        raise ModelError(f"{where}: not valid JSON: {why}; save the model again, or delete this file to run without a manifest") from broken
    if not isinstance(content, dict):
        raise ModelError(f"{where}: expected a JSON object, got {type(content).__name__}; save the model again, or delete this file")
    return content


def files(spark: SparkSession, uri: str) -> list[str]:
    """The paths of all files below `uri`, relative to it. ModelError when `uri` is no folder or cannot be reached."""
    fs, root = at(spark, uri)
    try:
        if not fs.exists(root):
            raise ModelError(f"{uri}: no such model; expected the folder of a saved Spark ML model; check model.uri, or train one first")
        if not fs.getFileStatus(root).isDirectory():
            raise ModelError(
                f"{uri}: a file; expected the folder of a saved Spark ML model (the one that holds metadata/); check model.uri"
            )
        prefix = str(fs.makeQualified(root).toUri().getPath()).rstrip("/") + "/"
        listed = fs.listFiles(root, True)
        paths = []
        while listed.hasNext():
            paths.append(str(listed.next().getPath().toUri().getPath()).removeprefix(prefix))
    except Py4JJavaError as refused:
        raise ModelError(f"{uri}: cannot be listed: {_first_line(refused)}; check model.uri and the permissions") from refused
    return paths


def content(spark: SparkSession, uri: str) -> bytes:
    """All bytes of one file."""
    return b"".join(chunks(spark, uri))


def at(spark: SparkSession, uri: str) -> tuple[Any, Any]:
    """Hadoop's FileSystem and Path of `uri`. ModelError when no FileSystem serves its scheme."""
    jvm: Any = spark._jvm
    context: Any = spark._jsc
    try:
        path = jvm.org.apache.hadoop.fs.Path(uri)
        return path.getFileSystem(context.hadoopConfiguration()), path
    except Py4JJavaError as refused:
        raise ModelError(
            f"{uri}: cannot be reached: {_first_line(refused)}; check model.uri and that its file system is on the class path"
        ) from refused


def chunks(spark: SparkSession, uri: str) -> Iterator[bytes]:
    fs, path = at(spark, uri)
    stream = fs.open(path)
    try:
        while chunk := bytes(stream.readNBytes(CHUNK)):
            yield chunk
    finally:
        stream.close()


def _first_line(refused: Py4JJavaError) -> str:
    return str(refused.java_exception).splitlines()[0]
