"""The files of a saved model, read once: what is checked is what is opened, wherever it is opened."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from streaming.errors import ModelError
from streaming.runtime.files import is_local, local_path

#: What describes the folder of a model, and is no part of it.
MANIFEST: Final = "MANIFEST.json"


def is_counted(path: str) -> bool:
    """True for a file of a model's folder that is part of the model: not its manifest, nor what Hadoop leaves beside the data."""
    name = path.rsplit("/", 1)[-1]
    return path != MANIFEST and name != "_SUCCESS" and not (name.startswith(".") and name.endswith(".crc"))


def signed(manifest: Mapping[str, Any] | None) -> bytes | None:
    """What the fingerprint covers of a model's manifest: all but the fingerprint itself. None: of manifests before format 2 nothing."""
    version = None if manifest is None else manifest.get("format_version")
    if manifest is None or not isinstance(version, int) or version < 2:
        return None
    said = {name: value for name, value in manifest.items() if name != "sha256"}
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def of_tree(digests: Mapping[str, bytes], manifest: bytes | None = None) -> str:
    """The sha256 of a folder, from the sha256 of each file that :func:`is_counted`, by relative path, and of what is :func:`signed`."""
    total = hashlib.sha256()
    if manifest is not None:
        total.update(MANIFEST.encode() + b"\0" + hashlib.sha256(manifest).digest())
    for path in sorted(digests):
        # Path and content each end where the next begins, so no two trees give the same bytes.
        total.update(path.encode() + b"\0" + digests[path])
    return total.hexdigest()


def _signed(manifest: bytes | None) -> bytes | None:
    try:
        content = json.loads(manifest or b"{}")
    except (ValueError, RecursionError):
        return None
    return signed(content) if isinstance(content, dict) else None


def is_part(path: str) -> bool:
    """True for what is read of a model's folder: what counts, and the manifest. Nothing else is copied, so nothing else can matter."""
    return is_counted(path) or path == MANIFEST


def inside(root: Path, name: str, uri: str) -> Path:
    """The path of the file `name` below `root`. ModelError when it would be anywhere else."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\0" in name or "\\" in name:
        raise ModelError(f"{uri}: a file called {name!r}, which leads out of the model's folder; save the model again")
    return root.joinpath(*parts)


def tampered(uri: str, *, expected: object, got: str, by: str = "model.sha256 in the config", mend: str = "") -> ModelError:
    """The files at `uri` are not those that somebody recorded: what to say of it."""
    mend = mend or "restore the model, or, if the change is yours, update what was recorded (streaming fingerprint prints it)"
    return ModelError(f"{uri}: the files were changed or tampered with: {by} expects sha256 {expected}, got {got}; {mend}")


@dataclass(frozen=True)
class Package:
    """A model of one file or of one folder, in memory."""

    #: Where it came from, for messages.
    uri: str
    #: The bytes by path inside the folder; a single file is here under its own name.
    files: Mapping[str, bytes] = field(repr=False)
    is_folder: bool
    #: True when somebody named the sha256 that it has.
    is_pinned: bool = False

    @property
    def sha256(self) -> str:
        """Of a file: that of its bytes, as `sha256sum` prints it. Of a folder: see :func:`of_tree`."""
        if not self.is_folder:
            (content,) = self.files.values()
            return hashlib.sha256(content).hexdigest()
        counted = {path: hashlib.sha256(content).digest() for path, content in self.files.items() if is_counted(path)}
        return of_tree(counted, _signed(self.files.get(MANIFEST)))

    def verified(self, expected: str | None) -> Package:
        """This package. ModelError when `expected` is given and is not its sha256."""
        if expected is not None and expected != self.sha256:
            raise tampered(self.uri, expected=expected, got=self.sha256)
        return self if expected is None else replace(self, is_pinned=True)

    def vouched_for(self) -> Package:
        """This package. ModelError unless it is pinned: what runs any code when it is opened is opened for its bytes, not for its place."""
        if not self.is_pinned:
            raise ModelError(f"{self.uri}: model.trust: true without model.sha256 would trust whatever stands there next time, too; set model.sha256 "
                             "(streaming fingerprint CONFIG prints it), or give --sha256")  # fmt: skip
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
        return replace(self, files={name: content for name, content in self.files.items() if is_counted(name)})._write(made)

    def _write(self, root: Path) -> Path:
        for name, content in self.files.items():
            target = inside(root, name, self.uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return root if self.is_folder else root / next(iter(self.files))

    def below(self, folder: str) -> Package:
        """The folder `folder` of this one as a package of its own; `""` and `"."`: all of it."""
        prefix = "" if folder in {"", "."} else folder.strip("/") + "/"
        inside = {path.removeprefix(prefix): content for path, content in self.files.items() if path.startswith(prefix)}
        if not inside:
            raise ModelError(f"{self.uri}: no folder {folder!r}; the model is not complete, save it again")
        return Package(f"{self.uri.rstrip('/')}/{prefix}".rstrip("/"), inside, True, self.is_pinned)

    def file(self, path: str) -> Package:
        """One file of this folder as a package of its own."""
        if path not in self.files:
            raise ModelError(f"{self.uri}: no file {path!r}; the model is not complete, save it again")
        return Package(f"{self.uri.rstrip('/')}/{path}", {path.rsplit("/", 1)[-1]: self.files[path]}, False, self.is_pinned)


def read(uri: str) -> Package:
    """The package at a local path or file: URI. ModelError when there is none or it cannot be read."""
    if not is_local(uri):
        raise ModelError(f"{uri}: only local files can be read here; copy the model to this machine and give its path")
    path = local_path(uri)
    try:
        if path.is_dir():
            files = {p.relative_to(path).as_posix(): p for p in sorted(path.rglob("*")) if p.is_file()}
            return Package(uri, {name: p.read_bytes() for name, p in files.items() if is_part(name)}, True)
        return Package(uri, {path.name: path.read_bytes()}, False)
    except FileNotFoundError as missing:
        raise ModelError(f"{uri}: no such model; check model.uri") from missing
    except OSError as refused:
        raise ModelError(f"{uri}: cannot be read: {refused.strerror}; check model.uri and the permissions") from refused
