"""Folders of small files wherever a job's state may be: a local path, or hdfs:, s3a: and the like through Hadoop.

Two writes matter here. `create` is for what must be written once: the first writer wins, and a reader sees the whole
file or none. `replace` is for what is always the newest: a reader sees the old file or the new one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlparse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Folder(Protocol):
    """A folder, made when something is first written to it."""

    def names(self) -> list[str]:
        """The names of its files, sorted; empty when the folder does not exist."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none."""

    def create(self, name: str, data: bytes) -> bool:
        """Write a file that must not exist yet; False, and nothing changed, when it does."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file, whatever was there."""

    def delete(self, name: str) -> None:
        """Remove a file; does nothing when there is none."""

    def below(self, name: str) -> Folder:
        """A folder inside this one."""


def is_local(uri: str) -> bool:
    """True for a plain path and for file: URIs: storage that only one machine sees, unless it happens to be a shared mount."""
    return urlparse(uri).scheme in {"", "file"}


def folder(uri: str, spark: Callable[[], SparkSession]) -> Folder:
    """The folder at `uri`. `spark` is asked for a session only when the folder is not local."""
    if is_local(uri):
        return LocalFolder(local_path(uri))
    return HadoopFolder(uri.rstrip("/"), spark())


def local_path(uri: str) -> Path:
    """The path of a local `uri`."""
    parsed = urlparse(uri)
    return Path(unquote(parsed.path) if parsed.scheme == "file" else uri)


@dataclass(frozen=True)
class LocalFolder:
    """A folder of this machine. What is written is on disk, not only in the page cache, when a call returns."""

    path: Path

    def names(self) -> list[str]:
        return sorted(p.name for p in self.path.iterdir() if p.is_file() and not p.name.startswith(".")) if self.path.is_dir() else []

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, data: bytes) -> bool:
        temporary = self._write(data)
        try:
            # A hard link, not a rename: it refuses a name that is taken, and no reader sees half a file.
            os.link(temporary, self.path / name)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def replace(self, name: str, data: bytes) -> None:
        self._write(data).replace(self.path / name)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def below(self, name: str) -> Folder:
        return LocalFolder(self.path / name)

    def _write(self, data: bytes) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{uuid.uuid4().hex}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return temporary


@dataclass(frozen=True)
class HadoopFolder:
    """A folder that Hadoop's FileContext reaches; its rename without overwrite is what Spark's own checkpoints rely on."""

    uri: str
    spark: SparkSession

    def names(self) -> list[str]:
        context, path = self._at("")
        if not context.util().exists(path):
            return []
        listed = (status for status in context.util().listStatus(path) if status.isFile())
        return sorted(name for status in listed if not (name := str(status.getPath().getName())).startswith("."))

    def read(self, name: str) -> bytes | None:
        context, path = self._at(name)
        if not context.util().exists(path):
            return None
        stream = context.open(path)
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def create(self, name: str, data: bytes) -> bool:
        context, path = self._at(name)
        if context.util().exists(path):
            return False
        return self._rename(self._write(data), path, "NONE")

    def replace(self, name: str, data: bytes) -> None:
        self._rename(self._write(data), self._at(name)[1], "OVERWRITE")

    def delete(self, name: str) -> None:
        context, path = self._at(name)
        context.delete(path, False)

    def below(self, name: str) -> Folder:
        return HadoopFolder(f"{self.uri}/{name}", self.spark)

    def _at(self, name: str) -> tuple[Any, Any]:
        jvm: Any = self.spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{name}" if name else self.uri)
        return jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), self.spark._jsc.hadoopConfiguration()), path

    def _write(self, data: bytes) -> Any:
        context, path = self._at(f".{uuid.uuid4().hex}")
        jvm: Any = self.spark._jvm
        flags = jvm.java.util.EnumSet.of(jvm.org.apache.hadoop.fs.CreateFlag.CREATE)
        gateway: Any = self.spark.sparkContext._gateway
        options = gateway.new_array(jvm.org.apache.hadoop.fs.Options.CreateOpts, 1)
        options[0] = jvm.org.apache.hadoop.fs.Options.CreateOpts.createParent()
        stream = context.create(path, flags, options)
        try:
            stream.write(bytearray(data))
        finally:
            stream.close()
        return path

    def _rename(self, source: Any, target: Any, how: str) -> bool:
        from py4j.protocol import Py4JJavaError

        jvm: Any = self.spark._jvm
        context, _ = self._at("")
        gateway: Any = self.spark.sparkContext._gateway
        options = gateway.new_array(jvm.org.apache.hadoop.fs.Options.Rename, 1)
        options[0] = getattr(jvm.org.apache.hadoop.fs.Options.Rename, how)
        try:
            context.rename(source, target, options)
        except Py4JJavaError as refused:
            context.delete(source, False)
            if refused.java_exception.getClass().getSimpleName() == "FileAlreadyExistsException":
                return False
            raise
        return True
