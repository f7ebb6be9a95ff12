"""Folders of small files wherever a job's state may be: a local path, or hdfs:, s3a: and the like through Hadoop.

Two writes matter here. `create` is for what must be written once: the first writer wins, and a reader sees the whole
file or none. `replace` is for what is always the newest: a reader sees the old file or the new one.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
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
    from streaming.runtime.hadoop import HadoopFolder

    return HadoopFolder(uri.rstrip("/"), spark())


def local_path(uri: str) -> Path:
    """The path of a local `uri`."""
    parsed = urlparse(uri)
    return Path(unquote(parsed.path) if parsed.scheme == "file" else uri)


def umask() -> int:
    """The rights that files of this process are made without."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def write_whole(target: Path) -> Iterator[Path]:
    """A name beside `target` to write a file or a folder under; renamed to `target` at the end, so that a reader sees all or nothing.

    When the block raises, what was written is removed and `target` is as it was. A folder does not replace a folder:
    OSError when there is one with something in it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


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
        temporary = self.path / f".{uuid.uuid4().hex}"
        try:
            _write_to_disk(temporary, data)
            # A hard link, not a rename: it refuses a name that is taken, and no reader sees half a file.
            os.link(temporary, self.path / name)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, name: str, data: bytes) -> None:
        with write_whole(self.path / name) as partial:
            _write_to_disk(partial, data)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def below(self, name: str) -> Folder:
        return LocalFolder(self.path / name)


def _write_to_disk(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
