"""Where the served model comes from: the configuration names it, a portable package holds it, Spark is not needed to read it.

A Spark pipeline is made into a package once, by another process (`streaming package`), and kept in `api.cache` under the
fingerprint of its files: the same files are never converted twice, and a changed model never meets an old package.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from streaming import adapters, secrets
from streaming import config as cfg
from streaming.api.served import Served
from streaming.config.sections import Api, SavedModel
from streaming.errors import ConfigError, ModelError
from streaming.runtime import model_versions
from streaming.runtime.files import LocalFolder, is_local, local_path
from streaming.scorers import child, files, signatures
from streaming.scorers.base import Scorer
from streaming.scorers.files import tampered

#: A conversion that takes longer has something wrong with it.
_LONGEST_S: Final = 1800
#: What a session needs beside what every process of a model gets: where jars are kept.
_NEEDED: Final = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "SPARK_HOME", "JDK_JAVA_OPTIONS", "SPARK_LOCAL_DIRS")

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConfigSource:
    """The model of a configuration file: a new version is a changed file, package or model folder."""

    path: Path

    def mark(self) -> str:
        """Names, sizes and times of the files; those of a model on other machines are not looked at, only CONFIG is."""
        try:
            config = cfg.load(self.path)
        except ConfigError as broken:
            return f"{_stats(self.path)} {broken}"
        return " ".join(map(_stats, (self.path, _watched(config))))

    def load(self) -> Served:
        """Read the configuration anew, then the model it names, packaging it first if need be."""
        config = cfg.load(self.path)
        settings = config.api
        scorer, sha256 = open_scorer(config.model, settings, source=self.path)
        self._claim(config, sha256)
        return Served.of(
            scorer,
            name=config.model.name,
            version=config.model.version,
            outcome=settings.outcome,
            entity=settings.entity,
            example=settings.example,
            sha256=sha256,
        )

    def _claim(self, config: cfg.Config, sha256: str | None) -> None:
        """Hold the version to the files it was first served with, here or on the stream, as far as this machine knows them."""
        if sha256 is None or not is_local(config.state):
            return
        section = config.model
        with suppress(OSError):  # a state that this process may only read, and that has no word on this version yet
            state = LocalFolder(local_path(config.state))
            model_versions.claim(state, model=section.name, version=section.version, sha256=sha256, uri=section.uri)


def open_scorer(section: SavedModel, settings: Api, *, source: Path) -> tuple[Scorer, str | None]:
    """The scorer of the model, and the sha256 of its files where it is known. StreamingError says what is missing or wrong."""
    if adapters.FORMATS[section.format].scorer:
        package = signatures.admitted(section, files.read(section.uri))
        return child.open_scorer(package, section), package.sha256
    if settings.package is not None:
        if section.require_signature:
            raise ModelError("api.package: model.require_signature is true, and a package has no signature; leave api.package out, so that it is made of the "
                             "signed model")  # fmt: skip
        package = files.read(settings.package)
        made_of = _made_of(package, section, where=f"api.package: {settings.package}")
        return child.open_scorer(package, section.model_copy(update={"format": "onnx", "sha256": None})), made_of
    sha256 = fingerprint(section)
    return adapters.scorer_of("onnx").open_onnx(packaged(section, Path(settings.cache), source=source)), sha256


def _made_of(package: files.Package, section: SavedModel, *, where: str) -> str | None:
    """The sha256 of the files that the package was made of. ModelError when they are not those of the model, or of its version."""
    try:
        manifest = json.loads(package.files.get("MANIFEST.json", b"{}"))
        got, version = manifest.get("source", {}).get("sha256"), manifest.get("version")
    except (ValueError, AttributeError, RecursionError):
        got, version = None, None
    here = is_local(section.uri) and local_path(section.uri).exists()
    expected = fingerprint(section) if here else section.sha256
    if expected not in {None, got}:
        raise ModelError(
            f"{where}: made of files with sha256 {got or 'unknown'}, but those of {section.name} version {section.version} have {expected}: "
            "the stream and this API would answer differently; make the package again (streaming package), or leave it out"
        )
    if version not in {None, section.version}:
        raise ModelError(
            f"{where}: made of version {version}, and model.version is {section.version}; make the package again, or name the version it was made of"
        )
    return str(got) if got else package.sha256


def fingerprint(section: SavedModel) -> str | None:
    """The sha256 of the model's files: computed when they are on this machine, else as the configuration pins it."""
    if not is_local(section.uri):
        return section.sha256
    return signatures.admitted(section, files.read(section.uri)).sha256


def packaged(section: SavedModel, cache: Path, *, source: Path) -> Path:
    """The folder of the package of this Spark model; made by another process if it is not there. ModelError when that fails."""
    known = fingerprint(section)
    key = known or hashlib.sha256(f"{section.uri}\0{section.version}".encode()).hexdigest()
    folder = cache / f"{section.name}-{key[:16]}"
    if folder.is_dir():
        return _checked(folder, known)
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = cache / f".{folder.name}-{uuid4().hex[:8]}"
    log.info("model=%s version=%s is made into a package (once): %s", section.name, section.version, folder)
    command, environment = _command(section, known, source)
    done = subprocess.run(
        [*command, "--out", str(partial)], capture_output=True, text=True, check=False, env=environment, timeout=_LONGEST_S
    )
    if done.returncode != 0 or not partial.is_dir():
        said = done.stderr.strip()
        why = said.rpartition("error: ")[2] if "error: " in said else "\n".join(said.splitlines()[-5:]) or "it said nothing"
        words = f"{section.uri}: no package could be made of this model (exit code {done.returncode}): {why}"
        raise ModelError(secrets.redact(words))
    try:
        partial.rename(folder)  # whole or not at all
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, with the same files
            raise
    return _checked(folder, known)


def _command(section: SavedModel, sha256: str | None, source: Path) -> tuple[list[str], dict[str, str] | None]:
    """What makes the package, and its environment: without secrets, but where storage elsewhere may need what the configuration holds."""
    command = [sys.executable, "-m", "streaming", "package"]
    if not is_local(section.uri):
        return [*command, str(source)], None
    command += [section.uri, "--format", section.format, "--name", section.name, "--version", section.version]
    command += ["--sha256", sha256] if sha256 is not None else []
    command += [word for name in section.allow_classes for word in ("--allow-class", name)]
    return command, child.clean_environment(*_NEEDED)


def _checked(folder: Path, sha256: str | None) -> Path:
    """The package. ModelError when others could have written it, or it is the package of other files."""
    for path in (folder.parent, folder, *folder.iterdir()):
        about = path.stat()
        if about.st_uid not in {0, os.geteuid()} or about.st_mode & 0o002:
            raise ModelError(f"{path}: others may write what api.cache keeps, so it may be another model; remove it, and give api.cache a folder that "
                             "only this user may write (chmod 700)")  # fmt: skip
    made_of = json.loads((folder / "MANIFEST.json").read_bytes()).get("source", {}).get("sha256")
    if sha256 not in {None, made_of}:
        raise tampered(str(folder), expected=sha256, got=str(made_of), by="the model", mend="remove the folder: it is made again")
    return folder


def _watched(config: cfg.Config) -> Path:
    """What changes on this machine when there is a new version."""
    settings = config.api
    if settings.package is not None:
        return Path(settings.package)
    return local_path(config.model.uri) if is_local(config.model.uri) else Path()


def _stats(path: Path) -> str:
    """Name, size, time and number of each file; a file that vanishes meanwhile is a change as well."""
    if path == Path():
        return ""
    lines = []
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            stat = each.stat()
        except OSError:
            lines.append(f"{each} gone")
            continue
        lines.append(f"{each} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}")
    return " ".join(lines)
