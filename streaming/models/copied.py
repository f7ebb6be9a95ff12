"""What is vetted is what is loaded: a model's files are copied to a folder that nobody else may open, and only the copy is read from then on.

The folder at `model.uri` may change between two looks at it. So it is read once: each file's bytes are hashed while
they are copied, the copy is vetted, and Spark is given the copy. What the copy leaves out, nothing ever reads.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from streaming.config.sections import SavedModel
from streaming.errors import ModelError
from streaming.models import manifest
from streaming.runtime.files import is_local, local_path
from streaming.runtime.spark import COPIES
from streaming.scorers.files import MANIFEST, inside, is_counted, is_part, of_tree, signed, tampered

#: Names that are the same to everybody who reads them: no blank, no sign of a pattern (Hadoop takes * and {} for one), nothing of SQL.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Copy:
    """A saved model's folder, copied. The copy is removed when nothing holds this any longer, at the latest when the process ends."""

    #: Where it came from: for messages.
    uri: str
    #: The copy on this machine.
    folder: Path
    #: The files of the copy, relative to its folder, with the sha256 of each.
    digests: Mapping[str, bytes] = field(repr=False)
    #: What the manifest says; None without one.
    manifest: dict[str, Any] | None = field(repr=False)
    #: The copy as every executor can read it.
    readable: str
    #: Of a part: what it is a part of, so that it is not removed too early.
    whole: Copy | None = field(default=None, repr=False)

    @property
    def sha256(self) -> str:
        """The fingerprint, see :func:`streaming.scorers.files.of_tree`."""
        return of_tree({name: digest for name, digest in self.digests.items() if is_counted(name)}, signed(self.manifest))

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return (self.folder / name).read_bytes()

    def below(self, place: str) -> Copy:
        """The folder `place` of this copy as a model of its own. ModelError when it is no folder in here."""
        if not is_plain(place):
            raise ModelError(
                f"{self.uri}: the model data are said to be at {place!r}, which is not a folder inside the model; save the model again"
            )
        digests = {name.removeprefix(f"{place}/"): digest for name, digest in self.digests.items() if name.startswith(f"{place}/")}
        if not digests:
            raise ModelError(f"{self.uri}: no folder {place!r}; the model is not complete, save it again")
        where, folder = f"{self.uri.rstrip('/')}/{place}", self.folder / place
        return Copy(where, folder, digests, _details(where, folder), f"{self.readable}/{place}", self)


def is_plain(path: str) -> bool:
    """True for a relative path of plain names."""
    return all(_NAME.fullmatch(part) and part.strip(".") for part in path.split("/"))


def take(spark: SparkSession, uri: str) -> Copy:
    """The folder at `uri`, copied and hashed. ModelError when there is none, or it cannot be read."""
    folder = Path(tempfile.mkdtemp(prefix="streaming-model-"))  # mode 0700
    try:
        copy = Copy(uri, folder, dict(_copied(spark, uri, folder)), _details(uri, folder), _shared(spark, folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(copy, shutil.rmtree, folder, ignore_errors=True)
    return copy


def checked(section: SavedModel, copy: Copy) -> Copy:
    """The copy. ModelError when its files are not those that the config or the manifest expects."""
    recorded = None if copy.manifest is None else copy.manifest.get("sha256")
    for expected, by in ((section.sha256, "model.sha256 in the config"), (recorded, MANIFEST)):
        if expected is not None and expected != copy.sha256:
            raise tampered(section.uri, expected=expected, got=copy.sha256, by=by,
                           mend="restore the model, or, if the change is yours, write a new manifest and update model.sha256")  # fmt: skip
    return copy


def _copied(spark: SparkSession, uri: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Copy each file that counts, and the manifest; gives name and sha256 of each."""
    for name, chunks in _local(uri) if is_local(uri) else _remote(spark, uri):
        if not is_part(name):
            continue
        target, digest = inside(folder, name, uri), hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for chunk in chunks:
                digest.update(chunk)
                out.write(chunk)
        yield name, digest.digest()


def _local(uri: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    root = local_path(uri)
    if not root.exists():
        raise ModelError(f"{uri}: no such model; expected the folder of a saved Spark ML model; check model.uri, or train one first")
    if not root.is_dir():
        raise ModelError(f"{uri}: a file; expected the folder of a saved Spark ML model (the one that holds metadata/); check model.uri")
    try:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                yield path.relative_to(root).as_posix(), _chunks(path)
    except OSError as refused:
        raise ModelError(f"{uri}: cannot be read: {refused.strerror}; check model.uri and the permissions") from refused


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(manifest.CHUNK):
            yield chunk


def _remote(spark: SparkSession, uri: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    for name in sorted(manifest.files(spark, uri)):
        yield name, manifest.chunks(spark, f"{uri.rstrip('/')}/{name}")


def _details(uri: str, folder: Path) -> dict[str, Any] | None:
    target = folder / MANIFEST
    return manifest.parsed(f"{uri.rstrip('/')}/{MANIFEST}", target.read_bytes()) if target.is_file() else None


def _shared(spark: SparkSession, folder: Path) -> str:
    """Where executors read the copy: on one machine the copy itself, on a cluster a copy of it that only this user may open."""
    base = str(spark.conf.get(COPIES, "") or "")
    if not base or str(spark.sparkContext.master).startswith("local"):
        return f"file:{folder}"
    jvm: Any = spark._jvm
    fs, target = manifest.at(spark, f"{base.rstrip('/')}/{uuid.uuid4().hex}")
    fs.mkdirs(target)
    fs.setPermission(target, jvm.org.apache.hadoop.fs.permission.FsPermission("700"))
    fs.deleteOnExit(target)
    for child in sorted(folder.iterdir()):
        fs.copyFromLocalFile(False, True, jvm.org.apache.hadoop.fs.Path(f"file:{child}"), target)
    return str(target.toString())


def vouched(section: SavedModel, copy: Copy) -> dict[str, Any] | None:
    """What the manifest says, as far as somebody vouches for it; None where nobody does.

    A manifest of the first format is not part of the fingerprint: whoever can write the folder can change what it says
    of labels and types, under the same `model.sha256`.
    """
    if copy.manifest is None or section.sha256 is None or signed(copy.manifest) is not None:
        return copy.manifest
    return {name: value for name, value in copy.manifest.items() if name not in {"label", "features"}}
