"""The files of a saved model, read once: what is checked is what is opened, wherever it is opened."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlparse

from streaming.errors import ModelError

#: Not part of the model: what describes the folder, and what Hadoop leaves in it.
_NOT_COUNTED: Final = ("MANIFEST.json",)


@dataclass(frozen=True)
class Package:
    """A model of one file or of one folder, in memory."""

    #: Where it came from, for messages.
    uri: str
    #: The bytes by path inside the folder; a single file is here under its own name.
    files: Mapping[str, bytes] = field(repr=False)
    is_folder: bool

    @property
    def sha256(self) -> str:
        """Of a file: that of its bytes, as `sha256sum` prints it. Of a folder: as :mod:`streaming.models.manifest` counts it."""
        if not self.is_folder:
            (content,) = self.files.values()
            return hashlib.sha256(content).hexdigest()
        total = hashlib.sha256()
        for path in sorted(self.files):
            name = path.rsplit("/", 1)[-1]
            if path not in _NOT_COUNTED and name != "_SUCCESS" and not name.endswith(".crc"):
                total.update(path.encode() + b"\0" + hashlib.sha256(self.files[path]).digest())
        return total.hexdigest()

    def verified(self, expected: str | None) -> Package:
        """This package. ModelError when `expected` is given and is not its sha256."""
        got = self.sha256 if expected is not None else None
        if expected != got:
            raise ModelError(f"{self.uri}: the files were changed or tampered with: model.sha256 in the config expects {expected}, got {got}; "
                             "restore the model, or, if the change is yours, update model.sha256")  # fmt: skip
        return self

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A private copy for readers that want a path: the file, or the folder. Gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="streaming-model-") as made:
            yield self._write(Path(made))

    def on_disk_for_good(self) -> Path:
        """A private copy that is removed when this process ends."""
        made = Path(tempfile.mkdtemp(prefix="streaming-model-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return self._write(made)

    def _write(self, root: Path) -> Path:
        for name, content in self.files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return root if self.is_folder else root / next(iter(self.files))

    def below(self, folder: str) -> Package:
        """The folder `folder` of this one as a package of its own; `""` and `"."`: all of it."""
        prefix = "" if folder in {"", "."} else folder.strip("/") + "/"
        found = {path.removeprefix(prefix): content for path, content in self.files.items() if path.startswith(prefix)}
        if not found:
            raise ModelError(f"{self.uri}: no folder {folder!r}; the model is not complete, save it again")
        return Package(f"{self.uri.rstrip('/')}/{prefix}".rstrip("/"), found, True)

    def file(self, path: str) -> Package:
        """One file of this folder as a package of its own."""
        if path not in self.files:
            raise ModelError(f"{self.uri}: no file {path!r}; the model is not complete, save it again")
        return Package(f"{self.uri.rstrip('/')}/{path}", {path.rsplit("/", 1)[-1]: self.files[path]}, False)


def read(uri: str) -> Package:
    """The package at a local path or file: URI. ModelError when there is none or it cannot be read."""
    parsed = urlparse(uri)
    if parsed.scheme not in {"", "file"}:
        raise ModelError(f"{uri}: only local files can be read here; copy the model to this machine and give its path")
    path = Path(unquote(parsed.path) if parsed.scheme else uri)
    try:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file())
            return Package(uri, {p.relative_to(path).as_posix(): p.read_bytes() for p in found}, True)
        return Package(uri, {path.name: path.read_bytes()}, False)
    except FileNotFoundError as missing:
        raise ModelError(f"{uri}: no such model; check model.uri") from missing
    except OSError as refused:
        raise ModelError(f"{uri}: cannot be read: {refused.strerror}; check model.uri and the permissions") from refused
